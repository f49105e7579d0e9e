"""The tables. They have no behaviour: verbs are functions in the modules beside this one.

Personal data (addresses, names, attributes) stands in `profiles` alone, one row per customer; everything else refers
to customers by id, so that one DELETE forgets a person. Hot tables (`inbox`, `enrollments`, `touchpoints`) are
narrow and have a partial index on exactly the rows that are due. Promises of uniqueness are UNIQUE constraints in
tables that are never partitioned.
"""

from db.tables.columns import EPOCH, MICROSECOND, Id, Json, Moment, State, Word, metadata
from db.tables.coupons import CouponState, coupons
from db.tables.customers import (
    MergeState,
    accounts,
    consents,
    customers,
    identities,
    merges,
    privacy_requests,
    profiles,
    suppressions,
)
from db.tables.files import documents, halts, releases
from db.tables.intake import (
    InboxState,
    alarms,
    events,
    fetch_cache,
    fetch_rates,
    fillings,
    inbox,
    pulses,
    stage_entries,
)
from db.tables.leaderboards import late_scores, score_counts, score_moves, scores, season_seals, seasons
from db.tables.ledger import HoldState, allocations, holds, ledger_accounts, ledger_transactions, lots, postings
from db.tables.loyalty import budgets, memberships, redemptions
from db.tables.referrals import (
    ReferralState,
    clicks,
    referral_codes,
    referral_decisions,
    referral_marks,
    referral_rewards,
    referrals,
    touches,
)
from db.tables.runs import (
    OPEN_TOUCHPOINTS,
    EnrollmentState,
    TouchpointState,
    answers,
    claims,
    contexts,
    decisions,
    enrollments,
    rounds,
    runs,
    touchpoints,
)

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "OPEN_TOUCHPOINTS",
    "CouponState",
    "EnrollmentState",
    "HoldState",
    "Id",
    "InboxState",
    "Json",
    "MergeState",
    "Moment",
    "ReferralState",
    "State",
    "TouchpointState",
    "Word",
    "accounts",
    "alarms",
    "allocations",
    "answers",
    "budgets",
    "claims",
    "clicks",
    "consents",
    "contexts",
    "coupons",
    "customers",
    "decisions",
    "documents",
    "enrollments",
    "events",
    "fetch_cache",
    "fetch_rates",
    "fillings",
    "halts",
    "holds",
    "identities",
    "inbox",
    "late_scores",
    "ledger_accounts",
    "ledger_transactions",
    "lots",
    "memberships",
    "merges",
    "metadata",
    "postings",
    "privacy_requests",
    "profiles",
    "pulses",
    "redemptions",
    "referral_codes",
    "referral_decisions",
    "referral_marks",
    "referral_rewards",
    "referrals",
    "releases",
    "rounds",
    "runs",
    "score_counts",
    "score_moves",
    "scores",
    "season_seals",
    "seasons",
    "stage_entries",
    "suppressions",
    "touches",
    "touchpoints",
]
