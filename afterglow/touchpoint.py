"""A touchpoint before it goes: its kind, whom it goes before, what the rails are asked, what its letter needs.

Whoever sends asks here, and so does whoever tests: production and `afterglow test` are the same code.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from afterglow import letters, rails
from afterglow.decide import Facts, Queued
from afterglow.durations import Duration
from afterglow.expressions import RenderError
from afterglow.language.catalog import Catalog
from afterglow.language.flow.graph import Flow, Notify, Until, UntilDate, Wait, WaitFor, next_steps
from afterglow.language.rails import LATES, LOSERS, length
from afterglow.language.shop import Shop
from afterglow.local_time import EVERY_DAY, Opening
from afterglow.mail_templates import Mail
from afterglow.person import Person


def kind_and_topic(queued: Queued, flow: Flow, mails: Mapping[str, Mail]) -> tuple[str, str | None]:
    """`service`, `marketing` or `team`; and the topic of marketing: the template's own, else the flow's."""
    mail = mails.get(queued.template)
    kind = "team" if queued.team else mail.kind if mail else "marketing"
    return kind, (mail.topic if mail and mail.topic else flow.topic) if kind == "marketing" else None


def precedence(
    shop: Shop, *, due_at: datetime, kind: str, flow: str, queued_at: datetime, number: int
) -> tuple[datetime, bool, int, datetime, int]:
    """What a customer's touchpoints are sorted by.

    Earlier due moments first; at one moment service mail, then flows in the shop's order of priority.
    """
    return due_at, kind == "marketing", shop.rank(flow), queued_at, number


def question(
    *,
    kind: str,
    topic: str | None,
    step: str,
    queued_at: datetime,
    due_at: datetime,
    flow: Flow,
    current: Flow | None,
    facts: Facts,
    person: Person,
    shop: Shop,
    suppressed: str | None,
    consents: Sequence[rails.Consent],
    is_halted: bool,
    is_held_out: bool,
    sent: Sequence[rails.Went],
) -> rails.Question:
    """All that the rails look at. Of what both the shop and the flow say, the tighter counts.

    Args:
      queued_at, due_at: since when it waits, and when it was to go.
      flow: the version that the run began in.
      current: the version in force, which alone says whether the flow is paused; None where it is gone.
      sent: when this customer's marketing went.
    """
    marketing = kind == "marketing"
    late = max(shop.model.late, flow.late or "send", key=LATES.index)
    return rails.Question(
        kind=kind,
        flow=flow.name,
        topic=topic,
        queued_at=queued_at,
        due_at=due_at,
        has_address=person.email is not None,
        forgotten=person.forgotten_at is not None,
        suppressed=suppressed,
        consents=consents if marketing else (),
        existing=rails.Existing(topics=shop.topics_of_existing_customers, has_bought=person.orders > 0),
        only_if=flow.only_if is None or flow.only_if.is_true(facts.names()),
        only_if_text=flow.only_if.text if flow.only_if else "",
        halted=marketing and is_halted,
        paused=current is not None and current.status == "paused",
        quiet_hours=[quiet for quiet in (shop.quiet_hours, flow.quiet_hours) if quiet] if marketing else (),
        blackouts=(*shop.blackouts, *flow.blackouts) if marketing else (),
        caps=(*shop.caps, *flow.caps) if marketing else (),
        loser=max(shop.model.loser, flow.loser or "defer", key=LOSERS.index),
        keep_for=keep_for(shop, flow),
        late=late,
        window=window(flow, step) if late == "next window" else None,
        sent=sent,
        zone=facts.zone,
        held_out=is_held_out,
    )


def keep_for(shop: Shop, flow: Flow) -> Duration:
    """How long marketing of a flow may wait for its turn."""
    return min(shop.keep_for, flow.keep_for or shop.keep_for, key=length)


def window(flow: Flow, step: str) -> Opening | None:
    """The times of the week that a flow names for a step: those of the wait before it, whatever instant steps between.

    None where it names none, or where ways with different ones lead there.
    """
    before = {id_: [one for one in flow.steps.values() if id_ in next_steps(one)] for id_ in flow.steps}
    found: set[Opening | None] = set()
    ahead, seen = [step], {step}
    while ahead:
        id_ = ahead.pop()
        if id_ == flow.first:
            found.add(None)
        for one in before[id_]:
            match one:
                case Until():
                    found.add(one.opening)
                case Wait() | UntilDate():
                    found.add(None if one.at is None else Opening(weekdays=EVERY_DAY, start=one.at, end=None))
                case WaitFor():
                    found.add(None)
                case _ if one.id not in seen:
                    seen.add(one.id)
                    ahead.append(one.id)
    return found.pop() if len(found) == 1 else None


def addressee(
    kind: str, step: str, flow: Flow, facts: Facts, person: Person, shop: Shop, due_on: date | None
) -> tuple[str | None, dict[str, Any]]:
    """Whom a touchpoint goes to, and what a team's letter needs besides.

    Args:
      due_on: the day by which the task is due that it tells of, where there is one.
    """
    if kind != "team":
        return person.email, {}
    notify = flow.steps[step]
    assert isinstance(notify, Notify)
    team = shop.model.teams.get(notify.team)
    try:
        about = notify.about.render(facts.names(), {}, escape=False) if notify.about else flow.about
    except RenderError as error:
        about = f"{flow.about} ({error})"
    extra = {
        "team": notify.team,
        "about": about,
        "task": notify.task.name if notify.task else None,
        "due": due_on.isoformat() if due_on else None,
    }
    return (team.address if team else None), extra


def went(basis: str | None, locale: str | None) -> dict[str, str]:
    """What is noted of a message that went: on what basis, and in which language where that is not the shop's own."""
    return {name: said for name, said in (("basis", basis), ("locale", locale)) if said is not None}


def variants(mail: Mail, catalog: Catalog, customer_id: int) -> dict[str, str]:
    """Which variants of rewards a customer offers, of the referral programmes whose variants a mail asks for."""
    return {
        name: variant
        for name in letters.tried(mail)
        if name in catalog.referrals and (variant := catalog.referrals[name].variant_of(customer_id)) is not None
    }
