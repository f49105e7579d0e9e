"""Why a flow did not start: recomputed from the files that were in force, never stored.

What a run did is stored; what did not happen would be a row per flow and event, nearly all of them of no interest.
So the customer is folded forward event by event, as `ingest` saw them, and every flow that an event or a stage could
have started is asked again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from afterglow.decide import key_of
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import Shop
from afterglow.telling import values


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What events alone say about a customer up to some event."""

    orders: int = 0
    spent: int = 0  # minor units of the shop's currency
    last_order_at: datetime | None = None
    stage: str | None = None
    stage_at: datetime | None = None

    def after(
        self, name: str, occurred_at: datetime, payload: Mapping[str, Any], stage: str | None, shop: Shop
    ) -> "Standing":
        """The standing after one more event, by the rules of `ingest`."""
        orders, spent, last = self.orders, self.spent, self.last_order_at
        if name == shop.model.order_event:
            orders += 1
            spent += shop.to_minor(_amount(payload, "order", "total"))
            last = max(last or occurred_at, occurred_at)
        spent -= shop.to_minor(_amount(payload, "refund", "amount"))
        newer = stage is not None and (self.stage_at is None or occurred_at >= self.stage_at)
        return Standing(
            orders=orders,
            spent=spent,
            last_order_at=last,
            stage=stage if newer else self.stage,
            stage_at=occurred_at if newer else self.stage_at,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why one flow did not start by one event."""

    sentence: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def refusal(
    flow: Flow,
    names: Mapping[str, Any],
    event_id: int,
    ran_by: Callable[[str], str | None],
    *,
    forgotten: bool,
    is_past: bool = False,
) -> Refusal:
    """Why a flow that this event or stage starts did not start.

    Args:
      names: what its condition saw: the payload, `customer` as of the event, `shop`.
      ran_by: what started the earlier run of a key, in words; None where the key never ran before.
      forgotten: the payload was erased, so that conditions can no longer be repeated.
      is_past: the event was imported or fetched.
    """
    match flow.status:
        case "draft":
            return Refusal(sentence="Did not start: the flow was a draft, which starts for nobody.")
        case "paused":
            return Refusal(sentence="Did not start: the flow was paused.")
    if forgotten:
        return Refusal(sentence="Did not start; why cannot be told any more, because the customer was forgotten.")
    if flow.when is not None and not flow.when.is_true(names):
        saw = values(flow.when.names, names)
        return Refusal(
            sentence=f"Did not start: `{flow.when.text}` was not true ({_listed(saw)}).{_caveat(saw)}",
            detail={"when": flow.when.text, "saw": saw},
        )
    key = key_of(flow, names, event_id)
    if flow.per_account and "account" not in names:
        return Refusal(sentence="Did not start: it runs per account, and this customer buys for none.")
    if flow.per_account and flow.to and (role := names.get("customer", {}).get("role")) not in flow.to:
        meant = " or ".join(sorted(flow.to))
        return Refusal(
            sentence=f"Has no run here: it is for {meant} of the account, and this customer is {role or 'neither'}.",
            detail={"to": sorted(flow.to)},
        )
    if key is None:
        text = flow.once_per.text if flow.once_per else ""
        return Refusal(
            sentence=f"Did not start: it runs once per {text}, and this event does not supply that.",
            detail={"once_per": text},
        )
    text = "account" if flow.per_account else flow.once_per.text if flow.once_per else "event"
    if (earlier := ran_by(key)) is not None:
        return Refusal(
            sentence=f"Did not start again: it runs once per {text}, and ran for {key} already, started by {earlier}."
            + _again(flow),
            detail={"once_per": text, "key": key},
        )
    if flow.per_account and not is_past:
        return Refusal(sentence=f"Did not start again: it runs once per account, and ran for {key} already.")
    if is_past:
        return Refusal(sentence="Did not start: the event came as history, which starts no flow by itself.")
    return Refusal(
        sentence="Did not start, though by what is known now it would; a fact about the customer has changed since.",
        detail={"once_per": text, "key": key},
    )


def _again(flow: Flow) -> str:
    return f" It may run again {flow.reenter.text}, once that run is over." if flow.reenter else ""


#: Facts that the fold knows as of the event; other facts of the customer are known only as they are now.
_FOLDED = frozenset({"id", "orders", "spent", "last_order_at", "stage", "since"})


def _caveat(saw: Mapping[str, str]) -> str:
    now = [name for name in saw if name.startswith("customer.") and name.split(".")[1] not in _FOLDED]
    if not now:
        return ""
    return f" {' and '.join(now)} {'is' if len(now) == 1 else 'are'} told as of now."


def _listed(saw: Mapping[str, str]) -> str:
    return ", ".join(f"{name} was {value}" for name, value in saw.items()) or "it reads no facts"


def _amount(payload: Mapping[str, Any], name: str, part: str) -> Decimal:
    holder = payload.get(name)
    value = holder.get(part) if isinstance(holder, Mapping) else None
    return Decimal(value) if isinstance(value, Decimal | int) else Decimal(0)
