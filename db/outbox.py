"""The outbox: every message to every customer, newest first, and each as the customer reads it.

What is stored is what a mail was made of, so a mail is made again when somebody looks. Filters that no index serves
look at a bounded stretch of the newest messages; where that ends before a page is full, the page says how far it saw
and a further look goes on from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import letters
from afterglow.expressions import RenderError
from afterglow.language.shop import Shop
from afterglow.letters import Addressed, Letterhead
from afterglow.mail_templates import Rendered
from afterglow.mime import message_id_for
from afterglow.tokens import make_token
from db import bulk, people
from db.catalog import CatalogCache
from db.overview import ends
from db.people import Person
from db.settings import Settings
from db.tables import contexts, enrollments, profiles, touchpoints

PAGE: Final = 50
#: Messages that one look walks past for a filter without an index; and, where subjects must be made, at most these.
LOOK_BACK: Final = 50_000
SUBJECTS_MAX: Final = 1_000
_INDEXED_STATES: Final = ("failed", "rejected", "in_doubt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which messages; `before` is the id where an earlier page ended."""

    flow: str | None = None
    step: str | None = None
    kind: str | None = None
    state: str | None = None
    customer_id: int | None = None
    subject: str | None = None
    before: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One message in the list. `subject` is None where it was not written yet, or not any more."""

    id: int
    customer_id: int
    first_name: str | None
    last_name: str | None
    email: str | None
    team: str | None
    flow: str
    step: str
    template: str
    kind: str
    state: str
    reason: str | None
    at: datetime
    subject: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A page of messages. `older` goes on from here; `stopped_at` is how far a look that found too few went."""

    items: tuple[Item, ...]
    older: int | None = None
    stopped_at: datetime | None = None


def letterhead(shop: Shop, settings: Settings) -> Letterhead:
    """What all letters of this installation share."""
    return Letterhead(
        shop=shop,
        public_url=settings.public_url,
        private_url=f"http://{settings.private_bind}",
        secret=settings.secrets[0],
    )


def mails(connection: Connection, catalog: CatalogCache, settings: Settings, wanted: Wanted) -> Found:
    """A page of messages, newest first. At most five queries, whatever is asked."""
    t, p = touchpoints.c, profiles.c
    lowest, highest = ends(connection, touchpoints)
    if highest is None:
        return Found(items=())
    top = min(wanted.before or highest + 1, highest + 1)
    limit = PAGE if wanted.subject is None else SUBJECTS_MAX
    query = (
        sa.select(
            t.id, t.customer_id, t.flow, t.step, t.template, t.template_id, t.kind, t.topic, t.state, t.reason,
            t.queued_at, t.due_at, t.prepared_at, t.settled_at, p.first_name, p.last_name, p.email,
        )
        .outerjoin(profiles, p.customer_id == t.customer_id)
        .where(t.id < top)
        .order_by(t.id.desc())
        .limit(limit + 1)
    )  # fmt: skip
    for column, value in ((t.flow, wanted.flow), (t.step, wanted.step), (t.kind, wanted.kind), (t.state, wanted.state)):
        if value is not None:
            query = query.where(column == value)
    bottom = lowest
    if wanted.customer_id is not None:
        query = query.where(t.customer_id == wanted.customer_id)
    elif wanted.state in _INDEXED_STATES:
        query = query.where(sa.text("touchpoints.state IN ('failed', 'rejected', 'in_doubt')"))
    else:
        bottom = max(lowest, top - LOOK_BACK)
        query = query.where(t.id >= bottom)
    rows: Sequence[Any] = connection.execute(query).all()
    looked, more = rows[:limit], len(rows) > limit
    written = _subjects(connection, catalog, settings, looked)
    matching = looked
    if wanted.subject is not None:
        sought = wanted.subject.casefold()
        matching = [row for row in looked if row.id in written and sought in written[row.id][0].casefold()]
    items = tuple(_item(row, *written.get(row.id, (None, None))) for row in matching[:PAGE])
    if len(matching) > PAGE or (more and wanted.subject is None):
        return Found(items=items, older=items[-1].id)
    if more:
        return Found(items=items, older=looked[-1].id, stopped_at=looked[-1].queued_at)
    if bottom > lowest:
        return Found(items=items, older=bottom, stopped_at=_queued_at(connection, bottom))
    return Found(items=items)


def _queued_at(connection: Connection, id_: int) -> datetime | None:
    """When the message of this id, or the next after it, was queued."""
    t = touchpoints.c
    query = sa.select(t.queued_at).where(t.id >= id_).order_by(t.id).limit(1)
    return connection.execute(query).scalar()


def _item(row: Any, subject: str | None, team: str | None) -> Item:
    pending = row.due_at if row.state in ("queued", "held") else None
    return Item(
        id=row.id,
        customer_id=row.customer_id,
        first_name=row.first_name,
        last_name=row.last_name,
        email=row.email,
        team=team,
        flow=row.flow,
        step=row.step,
        template=row.template,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        at=pending or row.settled_at or row.prepared_at or row.queued_at,
        subject=subject,
    )


def _subjects(
    connection: Connection, catalog: CatalogCache, settings: Settings, rows: Sequence[Any]
) -> dict[int, tuple[str, str | None]]:
    """Subject and team by touchpoint, of those whose context is kept."""
    pinned = [row for row in rows if row.template_id is not None]
    if not pinned:
        return {}
    stored: Mapping[int, Any] = {
        row.touchpoint_id: row.facts
        for row in connection.execute(
            sa.select(contexts.c.touchpoint_id, contexts.c.facts).where(
                bulk.among(contexts.c.touchpoint_id, [row.id for row in pinned])
            )
        )
    }
    templates = catalog.mails(connection, [row.template_id for row in pinned if row.id in stored])
    head = letterhead(catalog.current(connection).catalog.shop, settings)
    found = {}
    for row in pinned:
        if row.id not in stored:
            continue
        to = Addressed(touchpoint_id=row.id, customer_id=row.customer_id, kind=row.kind, topic=row.topic)
        try:
            subject = letters.subject(templates[row.template_id], stored[row.id], head, to)
        except RenderError as error:
            subject = f"(cannot be written again: {error})"
        found[row.id] = (subject, stored[row.id].get("extra", {}).get("team"))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """One message: what is stored of it, the mail itself where it can be made, and a sentence where it cannot."""

    row: Any
    person: Person | None
    run: Any
    rendered: Rendered | None
    missing: str | None
    headers: tuple[tuple[str, str], ...]
    team: str | None


def letter(connection: Connection, catalog: CatalogCache, settings: Settings, touchpoint_id: int) -> Letter | None:
    """A message as the customer reads it. None where there is none of this number."""
    t, e = touchpoints.c, enrollments.c
    row = connection.execute(
        sa.select(touchpoints, contexts.c.facts).outerjoin(contexts).where(t.id == touchpoint_id)
    ).one_or_none()
    if row is None:
        return None
    run = connection.execute(sa.select(enrollments).where(e.id == row.enrollment_id)).one_or_none()
    person = people.load(connection, [row.customer_id]).get(row.customer_id)
    shop = catalog.current(connection).catalog.shop
    rendered, missing = None, None
    if row.facts is None or row.template_id is None:
        missing = _why_not(row.state, person)
    else:
        mail = catalog.mails(connection, [row.template_id])[row.template_id]
        to = Addressed(touchpoint_id=row.id, customer_id=row.customer_id, kind=row.kind, topic=row.topic)
        try:
            rendered = letters.render(mail, row.facts, letterhead(shop, settings), to)
        except RenderError as error:
            missing = f"This mail cannot be made again: {error}."
    team = (row.facts or {}).get("extra", {}).get("team")
    return Letter(
        row=row,
        person=person,
        run=run,
        rendered=rendered,
        missing=missing,
        headers=_headers(row, person, team, shop, settings, rendered) if rendered else (),
        team=team,
    )


def _why_not(state: str, person: Person | None) -> str:
    if person is not None and person.forgotten_at is not None:
        return "The customer was forgotten, and what this mail was made of went with everything else about the person."
    match state:
        case "queued" | "held":
            return "This mail is not written yet: it is made at the moment it goes, from what is true then."
        case "skipped":
            return "This mail was skipped before it was written."
        case "failed":
            return "This mail could not be written."
        case _:
            return "What this mail was made of is not kept any more."


def _headers(
    row: Any, person: Person | None, team: str | None, shop: Shop, settings: Settings, rendered: Rendered
) -> tuple[tuple[str, str], ...]:
    """The headers of the mail, as `deliver` gives them to the channel. The address is the one that is known now."""
    sender = shop.model.sender
    to: str | None
    if team is not None:
        to = shop.model.teams[team].address if team in shop.model.teams else team
    else:
        name = " ".join(part for part in (person.first_name, person.last_name) if part) if person else ""
        address = person.email if person else None
        to = f"{name} <{address}>" if name and address else address
    addressed = Addressed(touchpoint_id=row.id, customer_id=row.customer_id, kind=row.kind, topic=row.topic)
    key = make_token(settings.secrets[0], "send", row.id)
    given = {
        "From": f"{sender.name} <{sender.address}>",
        "To": to,
        "Reply-To": shop.model.reply_to,
        "Subject": rendered.subject,
        "Date": f"{row.prepared_at:%a, %d %b %Y %H:%M:%S +0000}" if row.prepared_at else None,
        "Message-ID": message_id_for(key, sender.address.rpartition("@")[2]),
        **letters.headers(letterhead(shop, settings), addressed),
    }
    return tuple((name, value) for name, value in given.items() if value)
