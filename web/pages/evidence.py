"""What somebody's place on a leaderboard is made of: each referral, how it stands, and why."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from afterglow.referring import wording
from db import referring
from db.leaderboards import Evidence
from db.tables import ReferralState


def of_referrals(connection: Connection, programme: str, customer_id: int) -> Sequence[Evidence]:
    """The referrals of a referrer under a programme, newest first, with what was decided last and on what grounds."""
    mine = [
        one
        for one in referring.of_customer(connection, customer_id)
        if one.programme == programme and one.referrer_id == customer_id
    ]
    decided = referring.decisions(connection, [one.id for one in mine])
    found = []
    for one in mine:
        why: list[str] = []
        if history := decided.get(one.id):
            why.append(wording.summary(history[-1].because, history[-1].evidence))
            why += [sentence for decision in history for sentence in wording.findings(decision.evidence)]
        found.append(
            Evidence(
                what=f"Referral {one.id} of",
                state=one.state.value,
                needs_you=one.state is ReferralState.REVIEW,
                at=one.rewarded_at or one.qualified_at or one.attributed_at,
                customer_id=one.referee_id,
                because=why,
            )
        )
    return found
