"""Who brought whom, and what it brought them."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, customer, metadata, one_of

referral_codes = sa.Table(
    "referral_codes",
    metadata,
    sa.Column("programme", sa.Text, primary_key=True),
    customer(primary_key=True),
    sa.Column("code", sa.Text, nullable=False, unique=True),
    sa.Column("made_at", Moment, nullable=False),
)

#: Codes that somebody chose, such as MAYA-10: they lead to their customer beside the one that was made. The newest is
#: shown. None is also in `referral_codes`: whoever adds to either looks into the other.
vanity_codes = sa.Table(
    "vanity_codes",
    metadata,
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    customer(nullable=False, index=True),
    sa.Column("made_at", Moment, nullable=False),
)


class ReferralState(State):
    """The life of a referral. `due_at` says when it is looked at next, where it is."""

    ATTRIBUTED = "attributed"  # somebody brought them; -> qualified, reversed
    QUALIFIED = (
        "qualified"  # has due_at: to be judged, then when the hold ends; -> review, rejected, rewarded, reversed
    )
    REVIEW = "review"  # a person looks; may have a deadline; -> qualified, rewarded, rejected, reversed
    REWARDED = "rewarded"  # -> review, reversed
    REJECTED = "rejected"  # never rewarded; -> qualified by `afterglow referrals approve`
    REVERSED = "reversed"  # undone; has due_at while rewards must be taken back; -> qualified by approving


#: Referral links that were followed. Nothing about who did.
clicks = sa.Table(
    "clicks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    customer(nullable=False, index=True),  # the referrer
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
)

#: Every sign that a customer was brought by another: which one counts is decided anew from all of them.
touches = sa.Table(
    "touches",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    customer(nullable=False, index=True),  # who was brought
    sa.Column("referrer_id", Id, sa.ForeignKey("customers.id"), nullable=False, index=True),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("code_made_at", Moment, nullable=False),
    sa.Column("event_id", Id, sa.ForeignKey("events.id"), nullable=False),
    sa.Column("click_id", Id),
    sa.UniqueConstraint("event_id", "method", "code"),
    sa.CheckConstraint("method IN ('code', 'discount', 'landing', 'click')", name="method_is_known"),
)

_due_referral = sa.text("due_at IS NOT NULL")

_standing_reward = sa.text("state <> 'taken_back'")

#: Who brought whom, once per programme and referee. Amounts are in minor units of the shop's currency.
referrals = sa.Table(
    "referrals",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("referrer_id", Id, sa.ForeignKey("customers.id"), nullable=False),
    sa.Column("referee_id", Id, sa.ForeignKey("customers.id"), nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("touch_id", Id, sa.ForeignKey("touches.id"), nullable=False),
    sa.Column("document_id", Id, sa.ForeignKey("documents.id"), nullable=False),  # the programme's file as it was
    sa.Column("attributed_at", Moment, nullable=False),
    sa.Column("event_id", Id, sa.ForeignKey("events.id")),  # that qualified
    sa.Column("subject", sa.Text),  # the order of that event, such as order/shopify/1001
    sa.Column("qualified_at", Moment),
    sa.Column("judged_at", Moment),
    sa.Column("rewarded_at", Moment),
    sa.Column("due_at", Moment),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("refunded", sa.BigInteger, nullable=False),
    sa.Column("variant", sa.Text),  # of the rewards, that the referrer offers
    # The id leads, because the referees of a batch are looked up whatever the programme.
    sa.UniqueConstraint("referee_id", "programme"),
    one_of("state", ReferralState),
    sa.CheckConstraint(
        "state <> 'qualified' OR (due_at IS NOT NULL AND event_id IS NOT NULL)", name="qualified_is_due"
    ),
    sa.CheckConstraint("state <> 'rewarded' OR rewarded_at IS NOT NULL", name="rewarded_has_a_time"),
    sa.CheckConstraint("referrer_id <> referee_id OR state IN ('review', 'rejected', 'reversed')", name="nobody_alone"),
    sa.Index("ix_referrals_referrer_id_state", "referrer_id", "state", "programme"),
    sa.Index("ix_referrals_due", "due_at", postgresql_where=_due_referral, sqlite_where=_due_referral),
    sa.Index(
        "ix_referrals_review",
        "id",
        postgresql_where=sa.text("state = 'review'"),
        sqlite_where=sa.text("state = 'review'"),
    ),
)

#: What became of a referral, when, by whose word, and on what evidence: ids, names of rules and numbers.
referral_decisions = sa.Table(
    "referral_decisions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), nullable=False, index=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("author", sa.Text),  # of a person's decision
    sa.Column("reason", sa.Text),
    sa.Column("evidence", Json, nullable=False),
    one_of("state", ReferralState),
    sa.Index(
        "ix_referral_decisions_by_people",
        "id",
        postgresql_where=sa.text("author IS NOT NULL"),
        sqlite_where=sa.text("author IS NOT NULL"),
    ),
)

#: What referrals brought: one reward per referral and side stands at a time, for ever.
referral_rewards = sa.Table(
    "referral_rewards",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("milestone", sa.Integer, nullable=False),  # 0: of the referral itself
    sa.Column("generation", sa.Integer, nullable=False),  # which time it is given
    customer(nullable=False, index=True),  # who gets it
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),  # points | credit | coupon | webhook
    sa.Column("wallet", sa.Text),  # the loyalty programme of points and credit
    sa.Column("coupon", sa.Text),
    sa.Column("webhook", sa.Text),  # what the shop gives itself
    sa.Column("desired", sa.BigInteger, nullable=False),  # points, minor units of credit, or 1 coupon or webhook
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.Column("worth", sa.BigInteger, nullable=False, server_default="0"),  # what it costs the shop, in minor units
    sa.Column("counts_at", Moment, nullable=False),  # the instant whose period the cap counts
    sa.Column("given_at", Moment, nullable=False),
    sa.Column("taken_back_at", Moment),
    sa.UniqueConstraint("referral_id", "side", "milestone", "generation"),
    sa.CheckConstraint("side IN ('referrer', 'referee', 'milestone')", name="side_is_known"),
    sa.CheckConstraint("(side = 'milestone') = (milestone > 0)", name="milestone_has_a_number"),
    sa.CheckConstraint("state IN ('given', 'capped', 'taken_back')", name="state_is_known"),
    sa.CheckConstraint("asset IN ('points', 'credit', 'coupon', 'webhook')", name="asset_is_known"),
    sa.CheckConstraint("(state = 'capped') = (granted = 0)", name="capped_is_nothing"),
    sa.CheckConstraint("granted IN (0, desired)", name="all_or_nothing"),
    sa.CheckConstraint("(state = 'taken_back') = (taken_back_at IS NOT NULL)", name="taken_back_has_a_time"),
    sa.Index(
        "uq_referral_rewards_standing",
        "referral_id",
        "side",
        "milestone",
        unique=True,
        postgresql_where=_standing_reward,
        sqlite_where=_standing_reward,
    ),
)


#: By what a referee is known again, as keyed hashes: the mailbox, the phone number, the postal address, the card.
referral_marks = sa.Table(
    "referral_marks",
    metadata,
    sa.Column("referral_id", Id, sa.ForeignKey("referrals.id"), primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.CheckConstraint("kind IN ('email', 'phone', 'address', 'payment')", name="kind_is_known"),
)
