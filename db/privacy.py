"""What a person may ask for: everything that is known about them, or that it be forgotten.

Forgetting deletes what names a person and empties what might (payloads, raw webhooks), in one transaction under the
customer's lock. What stays are rows by number (events without content, runs, touchpoints), which nothing links to a
person any more, and a keyed hash of the address, so that an old list imported again brings no marketing back. The
ledger keeps amounts, times and numbers, since what was owed to whom must add up for ever; orders, keys and reasons are
taken out of it (`db/unlinking.py`).

Deleted rows linger in a database's own files for a while: PostgreSQL reuses their space after VACUUM, SQLite
overwrites it (`secure_delete`), backups keep it for as long as backups are kept.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow import letters, past
from afterglow.erasing import Needles, addresses_in
from afterglow.expressions import RenderError
from afterglow.language.company import COLLEAGUE, of_colleague
from afterglow.letters import Addressed, Letterhead
from afterglow.matching import EMAIL, PHONE
from db import (
    bulk,
    fetching,
    identity,
    leaderboards,
    merging,
    notices,
    occasions,
    people,
    proof,
    redemptions,
    referring,
    requests,
    reviews,
    segments,
    tasks,
    unlinking,
    why,
)
from db.catalog import CatalogCache
from db.history import UnknownCustomerError
from db.people import Person
from db.settings import Settings
from db.tables import (
    account_looks,
    account_runs,
    accounts,
    consents,
    contexts,
    customers,
    decisions,
    documents,
    enrollments,
    events,
    identities,
    inbox,
    memberships,
    profiles,
    referral_codes,
    runs,
    scores,
    segment_members,
    stage_entries,
    suppressions,
    touchpoints,
    vanity_codes,
)
from db.tables import reviews as reviews_table

#: Reason of everything that ends because of it.
FORGOTTEN = "the customer was forgotten"
#: Raw webhooks looked through by one statement.
PAGE = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """What was deleted or emptied, in rows; all zeros where there was nothing left to forget."""

    customer_id: int
    runs_stopped: int
    messages_skipped: int
    #: With a provider at this instant; they are settled as they come back, and nothing follows them.
    messages_under_way: int
    profiles: int
    identities: int
    consents: int
    letters: int
    merges: int
    referral_codes: int
    companies: int
    events_emptied: int
    webhooks_emptied: int
    #: Documents of sources that were kept for a moment; whose they are is not known, so all of them.
    answers_dropped: int
    #: Transactions of the ledger of which only numbers and times are left.
    ledger_unlinked: int
    kept_from_marketing: bool

    def __str__(self) -> str:
        counted = ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in asdict(self).items()
            if name not in ("customer_id", "kept_from_marketing")
        )
        kept = (
            " The address stays on the list that gets no marketing, as a keyed hash."
            if self.kept_from_marketing
            else ""
        )
        return f"Customer {self.customer_id} is forgotten: {counted}.{kept}"


def forget(
    connection: Connection, customer_id: int, now: datetime, secret: bytes, also: Collection[str] = ()
) -> Forgotten:
    """Forget a person, with all who were merged into them. May be repeated: it then deletes what came since.

    Must run in a transaction of its own (`Database.writing`), so that all of it happens or nothing.

    Args:
      also: further addresses, numbers and ids that name this person in raw webhooks.

    Raises:
      UnknownCustomerError: there is no customer of this number.
    """
    requests.erase_for_good(connection)
    customer_id = people.kept(connection, [customer_id]).get(customer_id, customer_id)
    needles = _needles(connection, customer_id, secret, also)
    mentioned = list(_mentions(connection, needles))
    # Webhooks before customers, as `ingest` locks them, so that the two never wait for each other.
    connection.execute(
        sa.select(inbox.c.id).where(bulk.among(inbox.c.id, mentioned)).order_by(inbox.c.id).with_for_update()
    )
    person = people.locked(connection, [customer_id]).get(customer_id)
    if person is None:
        raise UnknownCustomerError
    digests = _digests(connection, person, secret)
    _suppress(connection, digests, now)
    stones = merging.stones(connection, customer_id)
    stopped = _stop(connection, customer_id, now)
    requests.settle_for(connection, customer_id, now, FORGOTTEN)
    referring.forget(connection, [customer_id, *stones])
    notices.forget(connection, [customer_id, *stones], FORGOTTEN)
    leaderboards.forget(connection, [customer_id, *stones])
    _empty_told(connection, person, stones)
    reviews.forget(connection, customer_id)
    occasions.forget(connection, [customer_id, *stones])
    segments.forget(connection, [customer_id, *stones])
    tasks.forget(connection, customer_id)
    unlinked = unlinking.unlink(connection, customer_id, [customer_id, *stones], now)
    return Forgotten(
        customer_id=customer_id,
        **stopped,
        profiles=_delete(connection, profiles, customer_id),
        identities=_delete(connection, identities, customer_id),
        consents=_delete(connection, consents, customer_id),
        letters=_delete_letters(connection, customer_id),
        merges=merging.forget(connection, [customer_id, *stones], FORGOTTEN, now),
        referral_codes=sum(
            _delete(connection, table, one)
            for table in (referral_codes, vanity_codes)
            for one in (customer_id, *stones)
        ),
        companies=_leave_company(connection, person, now),
        events_emptied=_empty_events(connection, customer_id, needles),
        answers_dropped=fetching.clear(connection),
        webhooks_emptied=_empty_inbox(connection, customer_id, mentioned, needles),
        ledger_unlinked=unlinked,
        kept_from_marketing=bool(digests),
    )


def _digests(connection: Connection, person: Person, secret: bytes) -> list[str]:
    """The keyed hashes of a person's addresses: the present one, and all that are theirs."""
    i = identities.c
    theirs = sa.select(i.external_id).where(i.customer_id == person.id, i.source == EMAIL)
    present = [identity.address_digest(secret, person.email).hex()] if person.email else []
    return sorted({*present, *connection.execute(theirs).scalars()})


@dataclass(frozen=True, slots=True)
class _Sought:
    """What shows that a text speaks of a person: texts, and addresses of which only the hashes are known any more."""

    needles: Needles
    digests: frozenset[str]
    secret: bytes

    def __bool__(self) -> bool:
        return bool(self.needles or self.digests)

    def are_in(self, text: bytes, *, anywhere: bool = False) -> bool:
        if self.needles.are_in(text, anywhere=anywhere):
            return True
        found = addresses_in(text) if self.digests and b"@" in text.replace(b"\\u0040", b"@") else ()
        return any(identity.address_digest(self.secret, one).hex() in self.digests for one in found)


def forget_stranger(connection: Connection, named: Collection[str]) -> int:
    """Empty the raw webhooks that speak of a person who is no customer (any more). How many.

    Args:
      named: the addresses, numbers and ids by which the person is named.
    """
    requests.erase_for_good(connection)
    needles = _Sought(Needles.of(addresses=_addresses(named), ids=named), frozenset(), b"")
    mentioned = list(_mentions(connection, needles))
    if not mentioned:
        return 0
    connection.execute(
        sa.select(inbox.c.id).where(bulk.among(inbox.c.id, mentioned)).order_by(inbox.c.id).with_for_update()
    )
    return _empty_inbox(connection, None, mentioned, needles)


def _addresses(named: Iterable[str]) -> list[str]:
    """Those that are looked for whatever their length; the others may be short ids."""
    return [one for one in named if "@" in one or one.startswith("+")]


def _needles(connection: Connection, customer_id: int, secret: bytes, also: Collection[str]) -> _Sought:
    """The texts by which a raw webhook shows that it speaks of this person."""
    row = connection.execute(
        sa.select(profiles.c.email, profiles.c.phone).where(profiles.c.customer_id == customer_id)
    ).one_or_none()
    ids = connection.execute(
        sa.select(identities.c.external_id).where(identities.c.customer_id == customer_id, identity.ACCOUNTS)
    ).scalars()
    addresses = [*([row.email, row.phone] if row else ()), *_addresses(also)]
    for profile in merging.profiles_before(connection, customer_id):
        addresses += [profile["email"], profile["phone"]]
    i = identities.c
    hashes = connection.execute(sa.select(i.external_id).where(i.customer_id == customer_id, i.source == EMAIL))
    return _Sought(Needles.of(addresses=addresses, ids=[*ids, *also]), frozenset(hashes.scalars()), secret)


def _mentions(connection: Connection, needles: _Sought) -> Iterator[int]:
    """Ids of raw webhooks that became nobody's event and speak of this person: a search through their text."""
    if not needles:
        return
    after = 0
    c = inbox.c
    page = (
        sa.select(c.id, c.key, c.body, sa.cast(c.headers, sa.Text), sa.cast(c.fetched, sa.Text))
        .where(c.id > sa.bindparam("after"), c.customer_id.is_(None), c.body != b"")
        .order_by(c.id)
        .limit(PAGE)
    )
    while rows := connection.execute(page, {"after": after}).all():
        yield from (
            row[0] for row in rows if needles.are_in(row[2]) or needles.are_in(f"{row[1]} {row[3]} {row[4]}".encode())
        )
        after = rows[-1][0]


def _suppress(connection: Connection, digests: Sequence[str], now: datetime) -> None:
    bulk.insert(
        connection,
        suppressions,
        ("channel", "digest", "reason", "covers", "at"),
        [("email", digest, "forgotten", "marketing", now) for digest in digests],
        on_conflict="(channel, digest) DO NOTHING",  # a bounce or a complaint covers more, or is older
    )


def _stop(connection: Connection, customer_id: int, now: datetime) -> dict[str, int]:
    """End the runs, and the messages that no provider has in hand."""
    t, e = touchpoints.c, enrollments.c
    skipped = connection.execute(
        touchpoints.update()
        .where(t.customer_id == customer_id, t.state.in_(["queued", "held"]))
        .values(state="skipped", reason=FORGOTTEN, settled_at=now)
    ).rowcount
    under_way = connection.execute(
        sa.select(sa.func.count()).where(t.customer_id == customer_id, t.state == "sending")
    ).scalar_one()
    open_runs = connection.execute(
        sa.select(e.id, e.step).where(e.customer_id == customer_id, e.state.not_in(["finished", "stopped"]))
    ).all()
    stopped = connection.execute(
        enrollments.update()
        .where(bulk.among(e.id, [run.id for run in open_runs]))
        .values(state="stopped", reason=FORGOTTEN, due_at=None, until=None, ended_at=now)
    ).rowcount
    bulk.insert(
        connection,
        decisions,
        ("customer_id", "enrollment_id", "at", "verb", "step", "detail"),
        [(customer_id, run.id, now, "forgotten", None, None) for run in open_runs],
    )
    # What names the provider's copy of a mail, and what a provider or a failure may have said about a person.
    settled = (t.customer_id == customer_id) & (t.state != "sending")
    connection.execute(touchpoints.update().where(settled).values(provider_id=None))
    said = settled & t.state.in_(["rejected", "failed", "in_doubt"])
    connection.execute(touchpoints.update().where(said).values(reason=None))
    told = decisions.c.verb.in_(["rejected", "failed", "in doubt", "tried again"])
    connection.execute(decisions.update().where(decisions.c.customer_id == customer_id, told).values(detail=None))
    # The key may be an order's number, by which the shop's own books would lead back to the person.
    connection.execute(
        runs.update()
        .where(runs.c.customer_id == customer_id)
        .values(key=sa.literal("forgotten ") + sa.cast(runs.c.enrollment_id, sa.Text))
    )
    return {"runs_stopped": stopped, "messages_skipped": skipped, "messages_under_way": under_way}


def _delete(connection: Connection, table: sa.Table, customer_id: int) -> int:
    return connection.execute(table.delete().where(table.c.customer_id == customer_id)).rowcount


def _delete_letters(connection: Connection, customer_id: int) -> int:
    """Delete what the customer's mails were rendered with, found by the touchpoints."""
    mine = sa.select(touchpoints.c.id).where(touchpoints.c.customer_id == customer_id)
    return connection.execute(contexts.delete().where(contexts.c.touchpoint_id.in_(mine))).rowcount


def _leave_company(connection: Connection, person: Person, now: datetime) -> int:
    """Part the customer from a company; one that nobody else buys for may be a person's own name, and goes too."""
    forgotten_at = person.forgotten_at or now
    connection.execute(
        customers.update().where(customers.c.id == person.id).values(account_id=None, forgotten_at=forgotten_at)
    )
    if person.account_id is None:
        return 0
    others = sa.exists().where(customers.c.account_id == person.account_id)
    for table in (account_runs, account_looks):
        connection.execute(table.delete().where(table.c.account_id == person.account_id, ~others))
    return connection.execute(accounts.delete().where(accounts.c.id == person.account_id, ~others)).rowcount


def _empty_events(connection: Connection, customer_id: int, needles: _Sought) -> int:
    """Events keep their name, moment and key, so that a repeat is still a repeat; a key that names somebody goes."""
    e = events.c
    rows = connection.execute(sa.select(e.id, e.key, e.payload).where(e.customer_id == customer_id)).all()
    full = [row.id for row in rows if row.payload]
    connection.execute(events.update().where(bulk.among(e.id, full)).values(payload={}))
    bulk.update(
        connection,
        events,
        ("id", "key"),
        [(row.id, f"forgotten {row.id}") for row in rows if _tells(row.key, needles)],
    )
    return len(full)


def _empty_told(connection: Connection, person: Person, stones: Sequence[int]) -> None:
    """Events in which colleagues were told what the customer did, under any number, lose what they carry."""
    e = events.c
    if person.account_id is None:
        return
    rows = connection.execute(
        sa.select(e.id, e.key, e.payload)
        .join(customers, customers.c.id == e.customer_id)
        .where(customers.c.account_id == person.account_id, e.name.startswith(of_colleague("")))
    )
    numbers = {str(number) for number in (person.id, *stones)}
    told = [row for row in rows if row.payload.get(COLLEAGUE, {}).get("id") in numbers]
    connection.execute(events.update().where(bulk.among(e.id, [row.id for row in told])).values(payload={}))
    i = inbox.c
    came = bulk.among(i.key, [row.key for row in told])
    connection.execute(inbox.update().where(i.source == past.OURS, came).values(body=b""))


def _tells(key: str, needles: _Sought) -> bool:
    """Whether a key leads to a person. One of the past is made of an order, an id or the hash of an address."""
    return past.is_past(key) or needles.are_in(key.encode(), anywhere=True)


def _empty_inbox(connection: Connection, customer_id: int | None, mentioned: Sequence[int], needles: _Sought) -> int:
    """Empty raw webhooks; one that nobody has read yet is never read, and one that was parked is settled."""
    c = inbox.c
    mine = sa.false() if customer_id is None else c.customer_id == customer_id
    if mentioned:
        mine |= bulk.among(c.id, mentioned)
    rows = connection.execute(sa.select(c.id, c.key, c.state, c.body != b"").where(mine)).all()
    connection.execute(
        inbox.update()
        .where(bulk.among(c.id, [row[0] for row in rows]))
        .values(body=b"", headers={}, fetched=None, reason=FORGOTTEN, customer_id=None, awaits=None)
    )
    unread = [row[0] for row in rows if row.state != "mapped"]
    connection.execute(inbox.update().where(bulk.among(c.id, unread)).values(state="ignored", fetch_at=None))
    bulk.update(
        connection,
        inbox,
        ("id", "key"),
        [(row[0], f"forgotten {row[0]}") for row in rows if _tells(row.key, needles)],
    )
    return sum(bool(row[3]) for row in rows)


def export(connection: Connection, catalog: CatalogCache, settings: Settings, customer_id: int) -> dict[str, Any]:
    """Everything that is known about a person, as plain JSON: for them, not for us, so without hashes.

    Letters are made again from what they were made of; where that is forgotten or too old, only their fate is told.

    Raises:
      UnknownCustomerError: there is no customer of this number.
    """
    customer_id = people.kept(connection, [customer_id]).get(customer_id, customer_id)
    person = people.load(connection, [customer_id]).get(customer_id)
    if person is None:
        raise UnknownCustomerError
    secret = settings.secrets[0]
    release = catalog.current(connection)
    shop = release.catalog.shop
    mine = _Mine(connection, customer_id)
    profile = {name: getattr(person, name) for name in people.PROFILE}
    exported = {
        "customer": customer_id,
        "profile": profile,
        "since": person.since,
        "stage": person.stage,
        "orders": person.orders,
        "spent": f"{shop.to_major(person.spent)} {shop.model.currency}",
        "last_order_at": person.last_order_at,
        "forgotten_at": person.forgotten_at,
        "company": _company(connection, person),
        "identities": [
            row for row in mine.rows(identities, "source", "external_id") if row["source"] not in (EMAIL, PHONE)
        ],
        "merges": merging.told(connection, customer_id),
        "consents": mine.rows(consents, "channel", "topic", "state", "basis", "evidence", "occurred_at"),
        "suppressions": _suppressed(connection, person, secret),
        "events": mine.rows(events, "id", "name", "source", "key", "occurred_at", "recorded_at", "payload"),
        "reviews": mine.rows(
            reviews_table, "event_id", "product", "stars", "text", "named", "permitted_at", "permitted_by"
        ),
        "stages": mine.rows(stage_entries, "stage", "entered_at", "event_id"),
        "runs": _runs(connection, customer_id),
        "messages": _messages(connection, catalog, settings, customer_id),
        "ledger": [asdict(line) for line in proof.history(connection, customer_id)],
        "tiers": mine.rows(memberships, "programme", "tier", "since"),
        "segments": mine.rows(segment_members, "segment", "since"),
        "redemptions": [asdict(one) for one in redemptions.of_customer(connection, customer_id)],
        "referral_codes": [
            *mine.rows(referral_codes, "programme", "code", "made_at"),
            *mine.rows(vanity_codes, "programme", "code", "made_at"),
        ],
        "referrals": referring.told_to(connection, customer_id),
        "scores": mine.rows(scores, "programme", "metric", "season", "value", "reached_at"),
        "requests": [
            {"source": one.source, "asked_at": one.asked_at, "due_at": one.due_at}
            for one in requests.to_hand_over(connection)
            if customer_id in one.customer_ids
        ],
        "raw_webhooks_kept": _raw(connection, customer_id),
        "story": [str(line) for line in why.story(connection, catalog, secret, customer_id)],
    }
    plain: dict[str, Any] = _plain(exported)
    return plain


class _Mine:
    """Reads a customer's rows of a table."""

    def __init__(self, connection: Connection, customer_id: int) -> None:
        self.connection, self.customer_id = connection, customer_id

    def rows(self, table: sa.Table, *names: str) -> list[dict[str, Any]]:
        query = sa.select(*(table.c[name] for name in names)).where(table.c.customer_id == self.customer_id)
        return [dict(row._mapping) for row in self.connection.execute(query.order_by(*table.primary_key.columns))]


def _company(connection: Connection, person: Person) -> str | None:
    if person.account_id is None:
        return None
    return connection.execute(sa.select(accounts.c.name).where(accounts.c.id == person.account_id)).scalar()


def _suppressed(connection: Connection, person: Person, secret: bytes) -> list[dict[str, Any]]:
    if person.email is None:
        return []
    s = suppressions.c
    digest = identity.address_digest(secret, person.email).hex()
    rows = connection.execute(sa.select(s.channel, s.reason, s.covers, s.at).where(s.digest == digest))
    return [dict(row._mapping) for row in rows]


def _runs(connection: Connection, customer_id: int) -> list[dict[str, Any]]:
    e = enrollments.c
    rows = connection.execute(
        sa.select(
            e.id,
            documents.c.name.label("flow"),
            runs.c.key,
            e.event_id,
            e.entered_at,
            e.ended_at,
            e.state,
            e.step,
            e.reason,
        )
        .join(documents, documents.c.id == e.flow_id)
        .outerjoin(runs, runs.c.enrollment_id == e.id)
        .where(e.customer_id == customer_id)
        .order_by(e.id)
    )
    return [dict(row._mapping) for row in rows]


def _messages(
    connection: Connection, catalog: CatalogCache, settings: Settings, customer_id: int
) -> list[dict[str, Any]]:
    t = touchpoints.c
    rows = connection.execute(
        sa.select(touchpoints, contexts.c.facts).outerjoin(contexts).where(t.customer_id == customer_id).order_by(t.id)
    ).all()
    mails = catalog.mails(connection, sorted({row.template_id for row in rows if row.template_id and row.facts}))
    head = Letterhead(
        shop=catalog.current(connection).catalog.shop,
        public_url=settings.public_url,
        private_url=f"http://{settings.private_bind}",
        secret=settings.secrets[0],
    )
    told = []
    for row in rows:
        message = {
            name: getattr(row, name)
            for name in ("id", "flow", "step", "channel", "template", "kind", "topic", "state", "reason", "queued_at")
        }
        message["sent_at"] = row.settled_at if row.state == "sent" else None
        if row.facts is not None and row.template_id is not None:
            to = Addressed(touchpoint_id=row.id, customer_id=customer_id, kind=row.kind, topic=row.topic)
            try:
                rendered = letters.render(mails[row.template_id], row.facts, head, to)
            except RenderError as error:
                message["text"] = f"(this letter cannot be made again: {error})"
            else:
                message |= {"subject": rendered.subject, "text": rendered.text}
        told.append(message)
    return told


def _raw(connection: Connection, customer_id: int) -> list[dict[str, Any]]:
    c = inbox.c
    rows = connection.execute(
        sa.select(c.source, c.key, c.received_at, c.body, c.fetched)
        .where(c.customer_id == customer_id, c.body != b"")
        .order_by(c.id)
    )
    return [{**row._mapping, "body": row.body.decode("utf-8", errors="replace")} for row in rows]


def _plain(value: object) -> Any:
    """The value as JSON knows it: instants as ISO 8601 text, exact numbers as text where a float would round them."""
    match value:
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case str() | None | bool() | int() | float():
            return value
        case Decimal():
            return int(value) if value == value.to_integral_value() else str(value)
        case datetime():
            return value.isoformat()
        case Iterable():
            return [_plain(one) for one in value]
        case _:
            return str(value)
