"""The ledger: double entry, only ever added to. It holds no personal data."""

import sqlalchemy as sa

from db.tables.columns import Id, Json, Moment, State, Word, customer, metadata, one_of


class HoldState(State):
    """The life of what a redemption holds until it is settled; each of the ends is final."""

    HELD = "held"  # -> settled, void, timed_out
    SETTLED = "settled"  # spent, in part or whole; the rest went back
    VOID = "void"  # went back
    TIMED_OUT = "timed_out"  # went back, because nobody settled it in time


#: What customers have, a row for each asset and role. Points come from and go to the house, which has no row: nothing
#: of ours is locked by everybody. The ledger holds no personal data and is never changed, only added to.
ledger_accounts = sa.Table(
    "ledger_accounts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("role", Word, nullable=False),  # wallet | held | debt
    sa.Column("balance", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.Integer, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),  # after the newest entry
    # Transactions about this wallet that moved nothing, such as what a cap left nothing of: counted, and chained apart.
    sa.Column("nothings", sa.Integer, nullable=False, server_default="0"),
    sa.Column("nothings_chain", sa.LargeBinary),
    sa.UniqueConstraint("customer_id", "programme", "asset", "role"),
    sa.CheckConstraint("role IN ('wallet', 'held', 'debt')", name="role_is_known"),
    sa.CheckConstraint("CASE role WHEN 'debt' THEN balance <= 0 ELSE balance >= 0 END", name="keeps_to_its_side"),
    postgresql_with={"fillfactor": "80"},
)

ledger_transactions = sa.Table(
    "ledger_transactions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    customer(nullable=False),
    sa.Column("kind", Word, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of what was asked for: tells a repeat from a conflict
    sa.Column("event_at", Moment, nullable=False),  # when it happened; the tier progress counts then
    sa.Column("recorded_at", Moment, nullable=False),  # when we learned of it
    sa.Column("event_id", Id, sa.ForeignKey("events.id")),  # what caused it
    sa.Column("document_id", Id, sa.ForeignKey("documents.id")),  # the programme's file as it was then
    sa.Column("rule", sa.Text),
    sa.Column("inputs", Json, nullable=False),  # what the rule read
    sa.Column("desired", sa.BigInteger, nullable=False),  # before a cap or a policy cut it
    sa.Column("granted", sa.BigInteger, nullable=False),  # what moved
    sa.Column("progress", sa.BigInteger, nullable=False),  # towards the tier, with its sign
    sa.Column("subject", sa.Text),  # what it hangs on, such as an order
    sa.Column("undoes", Id, sa.ForeignKey("ledger_transactions.id")),
    sa.Column("author", sa.Text),
    sa.Column("reason", sa.Text),
    # The key leads, because the keys of a batch are looked up.
    sa.UniqueConstraint("key", "customer_id", "programme", "asset", "kind"),
    sa.CheckConstraint(
        "kind IN ('opening', 'earn', 'bonus', 'reward', 'adjust', 'redeem', 'reserve', 'settle', 'void', 'return', "
        "'expire', 'clawback', 'transfer')",
        name="kind_is_known",
    ),
    sa.CheckConstraint("granted BETWEEN 0 AND desired", name="grants_no_more_than_desired"),
    sa.CheckConstraint("kind <> 'adjust' OR (author IS NOT NULL AND reason IS NOT NULL)", name="adjusts_for_a_reason"),
    sa.Index("ix_ledger_transactions_customer_id_event_at", "customer_id", "event_at"),
    sa.Index(
        "ix_ledger_transactions_subject",
        "subject",
        postgresql_where=sa.text("subject IS NOT NULL"),
        sqlite_where=sa.text("subject IS NOT NULL"),
    ),
    sa.Index(
        "ix_ledger_transactions_undoes",
        "undoes",
        postgresql_where=sa.text("undoes IS NOT NULL"),
        sqlite_where=sa.text("undoes IS NOT NULL"),
    ),
)

#: The entries: those of one transaction sum to zero.
postings = sa.Table(
    "postings",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("n", sa.SmallInteger, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id")),
    sa.Column("house", Word),  # issued | spent | expired | adjusted
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("entry", sa.Integer),  # its number within the account
    sa.Column("balance", sa.BigInteger),  # of the account after it
    sa.Column("chain", sa.LargeBinary),  # over all entries of the account up to this one
    sa.UniqueConstraint("account_id", "entry"),
    sa.CheckConstraint("amount <> 0", name="moves_something"),
    sa.CheckConstraint("house IN ('issued', 'spent', 'expired', 'adjusted')", name="house_is_known"),
    sa.CheckConstraint("(account_id IS NULL) <> (house IS NULL)", name="has_one_place"),
    sa.CheckConstraint(
        "(account_id IS NULL) = (entry IS NULL) AND (account_id IS NULL) = (balance IS NULL) "
        "AND (account_id IS NULL) = (chain IS NULL)",
        name="is_chained_where_it_is_an_account",
    ),
)

#: Customers who were forgotten: what leads from their entries to them was taken out, and the chains made anew. While
#: one is open (which only its own transaction can see), the triggers let that through.
ledger_forgettings = sa.Table(
    "ledger_forgettings",
    metadata,
    sa.Column("id", Id, primary_key=True),
    customer(nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("transactions", sa.Integer, nullable=False),
    sa.Column("done_at", Moment),
)

_some_left = sa.text("remaining > 0")

#: What each credit brought, and how much of it is left. Pending, to be spent and past are a matter of the instant.
lots = sa.Table(
    "lots",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id"), nullable=False),
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False, index=True),
    # By which it was earned: another one where the lot came from a customer who was merged.
    sa.Column("origin_id", Id, sa.ForeignKey("ledger_transactions.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("remaining", sa.BigInteger, nullable=False),  # the amount less what was drawn
    sa.Column("earned_at", Moment, nullable=False),
    sa.Column("activates_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.CheckConstraint("amount > 0", name="holds_something"),
    sa.CheckConstraint("remaining BETWEEN 0 AND amount", name="remaining_is_a_part"),
    sa.Index("ix_lots_open", "account_id", postgresql_where=_some_left, sqlite_where=_some_left),
    sa.Index(
        "ix_lots_due",
        "expires_at",
        postgresql_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
        sqlite_where=sa.text("remaining > 0 AND expires_at IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

#: What a transaction drew from which lot, negative where it was returned.
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("lot_id", Id, sa.ForeignKey("lots.id"), primary_key=True, index=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount <> 0", name="draws_something"),
)

_held = sa.text("state = 'held'")

#: What redemptions hold until they are settled, by the transaction that reserved it.
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("transaction_id", Id, sa.ForeignKey("ledger_transactions.id"), primary_key=True),
    sa.Column("account_id", Id, sa.ForeignKey("ledger_accounts.id"), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("settled", sa.BigInteger, nullable=False),
    sa.Column("state", Word, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    one_of("state", HoldState),
    sa.CheckConstraint("amount > 0", name="holds_something"),
    sa.CheckConstraint("settled BETWEEN 0 AND amount", name="settled_is_a_part"),
    sa.CheckConstraint("(settled > 0) = (state = 'settled')", name="settles_what_is_settled"),
    sa.Index("ix_holds_due", "expires_at", postgresql_where=_held, sqlite_where=_held),
    sa.Index("ix_holds_open", "account_id", postgresql_where=_held, sqlite_where=_held),
)
