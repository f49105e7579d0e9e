"""What customers ask for by way of a provider, from the webhook until it is done.

asked -> found -> done for an export, which a person of the shop hands over; asked -> done for forgetting. The texts
that name somebody (`who`) stand in a request only while it is `asked`; afterwards it knows numbers alone, and stays as
the record that it was obeyed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.mapping import PrivacyRequest
from afterglow.matching import Identity
from afterglow.native import NATIVE_SOURCES
from db import bulk, identity
from db.tables import customers, events, identities, inbox, privacy_requests

#: How long a shop has to answer: the month of GDPR 12(3), as Shopify counts it.
TERM: Final = timedelta(days=30)
_ASKED: Final[Mapping[str, str]] = {
    "forget": "asked to forget a customer",
    "export": "a customer asks for their data",
    "forget-everybody": "asked to forget everybody known from this source only",
}
#: Identities that no source gave, and events of our own pages: neither says that another source knows somebody.
_OF_NO_SOURCE: Final = ("email", "phone")
_OUR_PAGES: Final = NATIVE_SOURCES[-1]


def ask(connection: Connection, asked: Sequence[tuple[int, str, datetime, PrivacyRequest]]) -> None:
    """Note requests given as (inbox row, source, when it came, what is asked), and empty their raw webhooks."""
    if not asked:
        return
    erase_for_good(connection)
    columns = ("source", "kind", "inbox_id", "asked_at", "due_at", "who", "customer_ids", "state")
    bulk.insert(
        connection,
        privacy_requests,
        columns,
        [(source, request.kind, id_, at, at + TERM, _who(request), [], "asked") for id_, source, at, request in asked],
        on_conflict="DO NOTHING",
    )
    bare = bulk.among(inbox.c.id, [id_ for id_, *_ in asked])
    connection.execute(inbox.update().where(bare).values(body=b"", headers={}))


def erase_for_good(connection: Connection) -> None:
    """Let SQLite overwrite what this transaction deletes."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _who(request: PrivacyRequest) -> dict[str, str] | None:
    who = request.customer
    if who is None:
        return None
    named = {"id": who.external_id, "email": who.email, "phone": who.phone}
    return {name: text for name, text in named.items() if text is not None}


def reason(kind: str, then: str = "it is seen to at once") -> str:
    """What stands beside the inbox row of a request."""
    return f"{_ASKED[kind]}: {then}"


def asked(connection: Connection, limit: int) -> Sequence[Any]:
    """The requests nobody has looked at, oldest first: id, source, kind, inbox_id, due_at, who."""
    r = privacy_requests.c
    query = sa.select(r.id, r.source, r.kind, r.inbox_id, r.due_at, r.who).where(r.state == "asked")
    return connection.execute(query.order_by(r.id).limit(limit)).all()


def customers_of(connection: Connection, secret: bytes, source: str, who: Mapping[str, str]) -> list[int]:
    """The customers that a request names: by their id at the source, and by their address."""
    named: list[Identity] = []
    if "id" in who:
        named.append((source, who["id"]))
    if "email" in who:
        named.append(identity.email_identity(secret, who["email"]))
    return sorted(set(identity.known(connection, named).values()))


def known_only_by(connection: Connection, source: str, limit: int) -> list[int]:
    """Customers whom this source brought and no other one knows, who are not forgotten yet."""
    c, i, e = customers.c, identities.c, events.c
    here = (source, f"{source}:order")
    by_id = sa.exists().where(i.customer_id == c.id)
    by_event = sa.exists().where(e.customer_id == c.id)
    query = (
        sa.select(c.id)
        .where(
            c.forgotten_at.is_(None),
            sa.or_(by_id.where(i.source.in_(here)), by_event.where(e.source == source)),
            ~by_id.where(i.source.not_in((*here, *_OF_NO_SOURCE))),
            ~by_event.where(e.source.not_in((source, _OUR_PAGES))),
        )
        .order_by(c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def found(connection: Connection, request: Any, customer_ids: Sequence[int]) -> None:
    """An export is to be made for these customers, by a person of the shop."""
    r = privacy_requests.c
    waiting = privacy_requests.update().where(r.id == request.id, r.state == "asked")
    connection.execute(waiting.values(state="found", who=None, customer_ids=list(customer_ids)))
    whom = " and ".join(str(one) for one in customer_ids)
    told = reason("export", f"hand over what `afterglow export {whom}` prints by {request.due_at:%Y-%m-%d}")
    connection.execute(inbox.update().where(inbox.c.id == request.inbox_id).values(reason=told))


def close(connection: Connection, request: Any, now: datetime, told: str) -> None:
    """A request is done; `told` says what came of it, without naming anybody."""
    r = privacy_requests.c
    ending = privacy_requests.update().where(r.id == request.id, r.state != "done")
    connection.execute(ending.values(state="done", who=None, done_at=now))
    said = reason(request.kind, told)
    connection.execute(inbox.update().where(inbox.c.id == request.inbox_id).values(reason=said))


def to_hand_over(connection: Connection) -> Sequence[Any]:
    """The exports that a person has to hand over, most urgent first: id, source, asked_at, due_at, customer_ids."""
    r = privacy_requests.c
    query = sa.select(r.id, r.source, r.kind, r.inbox_id, r.asked_at, r.due_at, r.customer_ids)
    return connection.execute(query.where(r.state == "found").order_by(r.due_at)).all()


def settle_for(connection: Connection, customer_id: int, now: datetime, told: str) -> int:
    """This customer has what they asked for, or is forgotten; a request about nobody else is done. How many."""
    done = 0
    for request in to_hand_over(connection):
        if customer_id not in request.customer_ids:
            continue
        left = [one for one in request.customer_ids if one != customer_id]
        if left:
            mine = privacy_requests.update().where(privacy_requests.c.id == request.id)
            connection.execute(mine.values(customer_ids=left))
        else:
            close(connection, request, now, told)
            done += 1
    return done


def empty_webhooks_of(connection: Connection, source: str, limit: int) -> int:
    """Empty raw webhooks of a source that became nobody's event; those that waited for a person wait no longer."""
    c = inbox.c
    full = sa.select(c.id).where(c.source == source, c.customer_id.is_(None), c.body != b"", c.state != "received")
    ids = list(connection.execute(full.order_by(c.id).limit(limit).with_for_update()).scalars())
    these = bulk.among(c.id, ids)
    told = reason("forget-everybody", "done")
    connection.execute(
        inbox.update()
        .where(these, c.state.in_(["parked", "awaiting"]))
        .values(state="ignored", awaits=None, reason=told)
    )
    connection.execute(inbox.update().where(these).values(body=b"", headers={}))
    return len(ids)


def follow(connection: Connection, merged: int, kept: int) -> None:
    """What one customer asked for is now the other's, for the two turned out to be one."""
    r = privacy_requests.c
    for row in connection.execute(sa.select(r.id, r.customer_ids).where(r.state != "done")).all():
        if merged in row.customer_ids:
            ids = list(dict.fromkeys(kept if one == merged else one for one in row.customer_ids))
            connection.execute(privacy_requests.update().where(r.id == row.id).values(customer_ids=ids))
