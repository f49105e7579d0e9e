"""A touchpoint before it goes: its kind, whom it goes before, what the rails are asked, what its letter needs.

Whoever sends asks here, and so does whoever tests: production and `afterglow test` are the same code.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from afterglow import letters, rails
from afterglow.decide import Facts, Queued
from afterglow.expressions import RenderError
from afterglow.language.catalog import Catalog
from afterglow.language.flow import Flow, Notify
from afterglow.language.shop import Shop
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
    queued_at: datetime,
    flow: Flow,
    current: Flow | None,
    facts: Facts,
    person: Person,
    shop: Shop,
    suppressed: str | None,
    consents: Sequence[rails.Consent],
    is_halted: bool,
    is_held_out: bool,
    sent: Sequence[datetime],
) -> rails.Question:
    """All that the rails look at.

    Args:
      flow: the version that the run began in.
      current: the version in force, which alone says whether the flow is paused; None where it is gone.
      sent: when this customer's marketing went.
    """
    marketing = kind == "marketing"
    return rails.Question(
        kind=kind,
        topic=topic,
        queued_at=queued_at,
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
        caps=(*shop.caps, *flow.caps) if marketing else (),
        keep_for=shop.keep_for,
        sent=sent,
        zone=facts.zone,
        held_out=is_held_out,
    )


def addressee(
    kind: str, step: str, flow: Flow, facts: Facts, person: Person, shop: Shop
) -> tuple[str | None, dict[str, Any]]:
    """Whom a touchpoint goes to, and what a team's letter needs besides."""
    if kind != "team":
        return person.email, {}
    notify = flow.steps[step]
    assert isinstance(notify, Notify)
    team = shop.model.teams.get(notify.team)
    try:
        about = notify.about.render(facts.names(), {}, escape=False) if notify.about else flow.about
    except RenderError as error:
        about = f"{flow.about} ({error})"
    return (team.address if team else None), {"team": notify.team, "about": about}


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
