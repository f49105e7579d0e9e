"""What `demo` tells of points and friends: a refund before and after, who brought himself, the board, what is owed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from afterglow.language.shop import Shop
    from db.leaderboards import View
    from db.proof import Owed, Verdict
    from db.referring import Decision, Referral
    from workers.demo.installation import Installation
    from workers.demo.witness import Witness

#: Who would like to be his own friend.
BROUGHT_HIMSELF = "viktor.neri@example.com"
#: Places of the board.
PLACES = 5


def tell_of_friends(shop: "Installation", witness: "Witness | None") -> None:
    """Tell it as far as it happened, and prove the ledger at the end. Every number is what the database says."""
    from db import identity, leaderboards, proof, referring

    with shop.app.reading() as connection:
        verdict = proof.verify(connection)  # first: it is to see one instant
    with shop.app.reading() as connection:
        release = shop.app.catalog.current(connection)
        model, now = release.catalog.shop, shop.app.clock.now(connection)
        if witness is not None:
            _say_witness(connection, witness)
        viktor = identity.find_customer(connection, shop.app.settings.secrets[0], BROUGHT_HIMSELF)
        brought = referring.of_customer(connection, viktor) if viktor is not None else []
        _say_judged(connection, [one for one in reversed(brought) if one.referrer_id == viktor])
        for programme in release.catalog.referrals:
            if leaderboards.metrics_of(connection, programme):
                _say_board(leaderboards.view(connection, model.calendar, now, programme=programme, limit=PLACES), model)
        owed = proof.liability(connection, now)
    if owed:
        _say_ledger(owed, verdict)


def _say_witness(connection: "Connection", witness: "Witness") -> None:
    from workers.commands.console import say, say_table

    before, after = witness.before, witness.after
    friend, referrer = _names(connection, before.referral.referee_id, before.referral.referrer_id)
    say()
    say("One refund, before and after", style="bold")
    say(f"{friend} came by {referrer}'s link, and both were rewarded. On {_day(before.at)} all of it was sent back.")
    say_table(
        ("", "before", "after"),
        [
            (f"{friend}'s beans", before.referee_has, after.referee_has),
            (f"{referrer}'s beans", before.referrer_has, after.referrer_has),
            (f"{referrer}'s friends who count", before.friends, after.friends),
            (f"{referrer}'s rank", before.rank or "none", after.rank or "none"),
            (f"Referral {before.referral.id}", before.referral.state.value, after.referral.state.value),
            (f"Mails on the way to {friend}", ", ".join(before.queued) or "none", ", ".join(after.queued) or "none"),
            (f"{friend}'s runs under way", before.runs, after.runs),
        ],
        numbers=("before", "after"),
    )


def _say_judged(connection: "Connection", brought: "list[Referral]") -> None:
    """Referrals of somebody who looks like his own friend, with what speaks against each."""
    from afterglow.referring.wording import findings
    from db import referring
    from workers.commands.console import say

    why = referring.decisions(connection, [one.id for one in brought])
    judged = [(one, decision) for one in brought if (decision := _judgement(why.get(one.id, ()))) is not None]
    if not judged:
        return
    (name,) = _names(connection, brought[0].referrer_id)
    say()
    say(f"{name} brought himself", style="bold")
    for one, decision in judged:
        until = f" until {_day(one.due_at)}; nothing is given meanwhile" if one.due_at else ""
        held = f"held for a person{until}" if one.state.value == "review" else one.state.value
        say(f"Referral {one.id}, score {decision.evidence['score']}: {held}.")
        for line in findings(decision.evidence):
            say(line, indent=2)


def _judgement(decisions: "Iterable[Decision]") -> "Decision | None":
    """The decision that weighed it, which is followed by others."""
    return next((one for one in decisions if one.evidence.get("rules")), None)


def _say_board(view: "View", shop: "Shop") -> None:
    from workers.commands.console import say
    from workers.commands.leaderboard import say_board

    say()
    say(f"afterglow leaderboard {view.board.programme} --limit {PLACES}", style="dim")
    say_board(view, shop)


def _say_ledger(owed: "Sequence[Owed]", verdict: "Verdict") -> None:
    from workers.commands.console import say
    from workers.commands.ledger import say_liability, say_verdict

    say()
    say("afterglow ledger liability", style="dim")
    say_liability(owed)
    say()
    say("afterglow ledger verify", style="dim")
    say_verdict(verdict)


def _names(connection: "Connection", *customers: int) -> list[str]:
    from db import people

    known = people.load(connection, customers)
    return [known[one].first_name or f"customer {one}" for one in customers]


def _day(at: "datetime") -> str:
    return f"{at.day} {at:%B}"
