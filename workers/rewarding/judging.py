"""Whether referrals that qualified pass, go to a person, or are rejected."""

from collections.abc import Mapping, Sequence

from afterglow.language.referral import ReferralProgramme
from afterglow.referring import fraud
from afterglow.referring.qualification import rewarded_from
from db.referring import Referral
from db.tables import ReferralState
from workers.rewarding.evidence import Evidence
from workers.rewarding.round import BOTH, Round


def judge(round_: Round, due: Sequence[Referral]) -> None:
    """Say of referrals that qualified whether they pass, a person looks, or they are rejected."""
    if not due:
        return
    facts = Evidence(round_, due)
    for referral in due:
        programme = round_.programmes[referral.document_id]
        judgement = fraud.judge(facts.of(referral), programme.fraud)
        at = referral.judged_at = round_.at(referral)
        evidence = judgement.evidence()
        match judgement.verdict:
            case fraud.Verdict.REJECT:
                round_.move(referral, ReferralState.REJECTED, "rules speak against it", evidence)
            case fraud.Verdict.REVIEW:
                deadline = programme.fraud.deadline.after(at, round_.shop.zone)
                round_.move(referral, ReferralState.REVIEW, "a person is to look", evidence, deadline)
            case fraud.Verdict.PASS:
                _pass(round_, referral, programme, "nothing speaks against it", evidence)


def decide(round_: Round, due: Sequence[Referral]) -> None:
    """What nobody looked at until its deadline."""
    for referral in due:
        programme = round_.programmes[referral.document_id]
        word = programme.fraud.on_deadline
        because, evidence = "nobody looked until the deadline", {"on_deadline": word}
        match word:
            case "hold":
                round_.move(referral, ReferralState.REVIEW, because, evidence)
            case "reward" if referral.counts:
                round_.move(referral, ReferralState.REWARDED, because, evidence)
            case "reward":
                _pass(round_, referral, programme, because, evidence)
            case "reject" if referral.counts:
                round_.move(referral, ReferralState.REVERSED, because, evidence, round_.at(referral))
            case "reject":
                round_.move(referral, ReferralState.REJECTED, because, evidence)


def _pass(
    round_: Round, referral: Referral, programme: ReferralProgramme, because: str, evidence: Mapping[str, object]
) -> None:
    assert referral.qualified_at is not None
    ends = max(round_.at(referral), rewarded_from(programme, referral.qualified_at, round_.shop.zone))
    round_.move(referral, ReferralState.QUALIFIED, because, {**evidence, "hold_ends": ends.isoformat()}, ends)
    round_.told += [("referral.qualified", referral, side, {}) for side in BOTH]
