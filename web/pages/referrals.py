"""Referrals that wait for a person: what speaks against each, until when, what happens then, and the two buttons."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from afterglow.language.referral import Gives
from afterglow.referring import wording as reasons
from db import overview, reviewing
from db.app import App
from db.referring import ReferralDecisionError, UnknownReferralError
from db.reviewing import Case
from db.tables import ReferralState
from web import wording
from web.pages.look import Look, as_id

#: Who decided, where a page did: it does not know people.
BY: Final = "the web page"
#: Referrals on one page.
SHOWN: Final = 50
REASON_MAX: Final = 300
SHOWS: Final = {"waiting": "To review", "decided": "Decided by people", "rejected": "Not counted"}
_DONE: Final = {
    "approved": "Referral {} counts. It is rewarded once the time for returns is over; you can still reject it.",
    "rejected": "Referral {} does not count. What it brought is taken back; you can still approve it.",
    "reason": "Referral {} waits still: say why in a few words, so that others understand it later.",
    "late": "Referral {} had changed meanwhile, so nothing was decided. This is how it stands now.",
}
_STATES: Final = {
    ReferralState.ATTRIBUTED: "draft",
    ReferralState.QUALIFIED: "held",
    ReferralState.REVIEW: "rejected",
    ReferralState.REWARDED: "sent",
    ReferralState.REJECTED: "skipped",
    ReferralState.REVERSED: "skipped",
}


def referrals_(look: Look) -> Response:
    """The queue, what was decided, and what does not count."""
    shown = look.word("show") or "waiting"
    if shown not in SHOWS:
        return look.not_found(f"There is no list “{shown}” of referrals.", tab="referrals")
    list_ = {"waiting": reviewing.waiting, "decided": reviewing.decided, "rejected": reviewing.rejected}[shown]
    return look.page(
        "referrals",
        tab="referrals",
        shows=SHOWS,
        shown=shown,
        cases=list_(look.connection, look.app.catalog, SHOWN),
        count=overview.needs_review(look.connection),
        told=Told(look),
        programmes=look.release.catalog.referrals,
        done=_DONE.get(look.word("done") or "", "").format(look.number("referral") or "") or None,
        reason_max=REASON_MAX,
    )


class Told:
    """How the page says things of a referral."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._shop = look.release.catalog.shop

    def name(self, case: Case, side: str) -> str:
        return wording.name_of(case.referrer if side == "referrer" else case.referee)

    def state(self, case: Case) -> str:
        """The class of its dot."""
        return _STATES[case.referral.state]

    def why(self, case: Case) -> str:
        """The last decision, in one line."""
        last = case.decisions[-1]
        if last.author:
            return f"{last.author}: {last.reason}" if last.reason else f"{last.author} decided."
        return reasons.summary(last.because, last.evidence)

    def findings(self, case: Case) -> list[str]:
        """What speaks against it: of the newest judgement that found anything."""
        for decision in reversed(case.decisions):
            if found := reasons.findings(decision.evidence):
                return found
        return []

    def score(self, case: Case) -> object:
        """The score of that judgement, or None."""
        return next((d.evidence["score"] for d in reversed(case.decisions) if "score" in d.evidence), None)

    def then(self, case: Case) -> str:
        """What happens where nobody decides."""
        if case.referral.due_at is None:
            return "It waits until somebody decides."
        if case.programme.fraud.on_deadline == "hold":
            return "Then it goes on waiting: nothing happens by itself."
        if case.programme.fraud.on_deadline == "reward":
            return "Then what was given stays." if case.stands else "Then it is rewarded by itself."
        return "Then what was given is taken back." if case.stands else "Then it is rejected by itself."

    def stakes(self, case: Case) -> str:
        """What it is about: what both sides have of it, or would get."""
        verb = "has" if case.stands else "gets"
        sides = (("referrer", case.programme.referrer), ("referee", case.programme.referee))
        told = [f"{self.name(case, side)} {verb} {self._gives(gives)}" for side, gives in sides if gives is not None]
        return ", ".join(told) or "Only milestones"

    def _gives(self, gives: Gives) -> str:
        if gives.asset == "coupon":
            return f"the coupon {gives.coupon}"
        if gives.asset == "credit":
            return f"{gives.amount} {self._shop.model.currency} of credit"
        loyalty = self._look.release.catalog.loyalty.get(gives.programme or "")
        return f"{gives.amount:,} {loyalty.asset if loyalty else 'points'}"

    def order(self, case: Case) -> str | None:
        """The order that qualified, with its worth and what of it was returned."""
        one = case.referral
        if one.subject is None and not one.amount:
            return None
        worth = f"{wording.amount(one.amount, self._shop)} {self._shop.model.currency}"
        back = f", of which {wording.amount(one.refunded, self._shop)} were returned" if one.refunded else ""
        return f"{(one.subject or 'an order').removeprefix('order/')}: {worth}{back}"

    def can_approve(self, case: Case) -> bool:
        return case.referral.state in (ReferralState.REVIEW, ReferralState.REJECTED, ReferralState.REVERSED)

    def can_reject(self, case: Case) -> bool:
        return case.referral.state not in (ReferralState.REJECTED, ReferralState.REVERSED)


def decide(app: App, form: Mapping[str, str]) -> str:
    """Approve or reject a referral, with the reason that is kept."""
    id_, show = as_id(form.get("id", "")), form.get("show", "")
    back = f"/referrals?show={show}&" if show in SHOWS and show != "waiting" else "/referrals?"
    reason = "".join(c for c in form.get("reason", "") if c.isprintable()).strip()[:REASON_MAX]
    decision = form.get("decision")
    if id_ is None or decision not in ("approve", "reject"):
        return "/referrals"
    if not reason:
        return f"{back}done=reason&referral={id_}"
    try:
        with app.writing() as connection:
            now = app.clock.now(connection)
            if decision == "approve":
                reviewing.approve(connection, app.catalog, id_, author=BY, reason=reason, now=now)
            else:
                reviewing.reject(connection, id_, author=BY, reason=reason, now=now)
    except (ReferralDecisionError, UnknownReferralError):
        return f"{back}done=late&referral={id_}"
    app.hint("tend")
    return f"{back}done={'approved' if decision == 'approve' else 'rejected'}&referral={id_}"
