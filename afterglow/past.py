"""The past: events that a file or a provider's list brought, which know no webhook, and how the two are told to be one.

A webhook's key is the provider's, such as a delivery's id, which neither a file nor a list of orders has. So an event
of the past has a key of ours, made of what can happen to its subject only once: an order is paid once, a customer
created once. Whichever of the two comes second is a repeat.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

#: Begins every key of the past; no webhook's key is made by us.
MARK: Final = "past/"
#: What happens to an order once, beside the event that counts as an order.
ONCE_PER_ORDER: Final = frozenset({"order.placed", "order.paid", "order.fulfilled", "order.cancelled"})
#: The source of events that we tell ourselves.
OURS: Final = "programme"
#: What happens to a customer once.
CREATED: Final = "customer.created"
#: A missed event that is fetched later than this starts nothing, as what is imported.
LATE: Final = timedelta(hours=24)
#: Header of an inbox row that was fetched: the seconds after which it starts nothing. No webhook can bring it, since of
#: a request only the headers that its source reads are kept.
FETCHED: Final = "afterglow-fetched"


def past_key(event: str, subject: str) -> str:
    """The key of an event of the past."""
    return f"{MARK}{event}/{subject}"


def is_past(key: str) -> bool:
    """Whether a key is one of the past."""
    return key.startswith(MARK)


def order_of(payload: Mapping[str, Any]) -> str | None:
    """The id of the order that a payload speaks of."""
    order = payload.get("order")
    found = order.get("id") if isinstance(order, Mapping) else None
    return str(found) if found is not None else None


def order_subject(source: str, payload: Mapping[str, Any]) -> str | None:
    """What hangs on an order is found by this, such as order/shopify/1001; None where a payload speaks of none.

    Our own events say of which source the order is; every other one speaks of the orders of its own source.
    """
    order = order_of(payload)
    if order is None:
        return None
    return f"order/{payload['order'].get('source', source) if source == OURS else source}/{order}"


def subject(event: str, payload: Mapping[str, Any], external_id: str | None, order_event: str) -> str | None:
    """To whom or to what this event happens only once; None where it may happen again."""
    if event == CREATED:
        return external_id
    return order_of(payload) if event == order_event or event in ONCE_PER_ORDER else None
