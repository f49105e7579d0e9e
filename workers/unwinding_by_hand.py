"""A person says that nothing of an order is to stay: an event of ours, which `ingest` hears like every other."""

from datetime import datetime

from sqlalchemy.engine import Connection

from afterglow import returning
from afterglow.errors import AfterglowError
from db import identity, intake, people
from db.app import App
from db.own_events import own_event
from workers.ingest import Ingest
from workers.unwinding import Unwound


class UnknownOrderError(AfterglowError):
    """No order of this name came in, or several sources have one of it."""


def by_hand(
    connection: Connection, app: App, order: str, *, reason: str, by: str, now: datetime
) -> tuple[str, Unwound | None]:
    """Let a person say that nothing of an order is to stay: an event of ours, heard like every other.

    Must run in a transaction of its own; rolled back, it was a question.

    Args:
      order: as its source calls it, alone or behind the source: 1001, shopify/1001.

    Returns:
      What the order is called here, and what went back; None where it was unwound before.

    Raises:
      UnknownOrderError: there is no such order, or more than one.
    """
    found = identity.orders_called(connection, order)
    if not found:
        raise UnknownOrderError(f"No order '{order}' came in; give it as its source calls it, or as source/order.")
    if len(found) > 1:
        several = ", ".join(f"{source}/{id_}" for source, id_, _ in found)
        raise UnknownOrderError(f"There are several orders '{order}': {several}; say which.")
    ((source, id_, customer),) = found
    customer = people.kept(connection, [customer])[customer]
    payload = {"order": {"id": id_, "source": source}, "reason": reason, "by": by}
    said = own_event(returning.UNWOUND, f"unwind/{source}/{id_}", customer, now, payload)
    subject = f"order/{source}/{id_}"
    row = intake.receive_one(connection, said, now)
    if row is None:
        return subject, None
    work = Ingest(app)
    work.do(connection, [row], now)
    return subject, work.unwound
