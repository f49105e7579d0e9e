"""Payloads taken over as they came: every declared field in its declared kind."""

from collections.abc import Mapping
from decimal import Decimal

from afterglow.expressions import MISSING
from afterglow.expressions.filters import iso, number
from afterglow.mapping.facts import Unmappable
from afterglow.mapping.values import is_whole_number, stored


def conforming(payload: Mapping[str, object], kinds: Mapping[str, str]) -> dict[str, object]:
    """The payload with every declared field in its declared kind.

    Numbers and moments written as text are read, so that `order.total > 40` means the same whichever way an
    event came. What is not declared stays as it is.

    Args:
      kinds: by path, such as `order.total` or `order.items[].title`; as `supplies` and shop.yaml give them.

    Raises:
      Unmappable: a field of another kind.
    """
    result = dict(payload)
    for path, kind in kinds.items():
        _conform(result, path.split("."), kind, path)
    return result


def _conform(holder: dict[str, object], names: list[str], kind: str, path: str) -> None:
    """Replace what stands at the path below `holder`, copying what lies on the way."""
    name, *further = names
    listed = name.endswith("[]")
    name = name.removesuffix("[]")
    value = holder.get(name)
    if value is None:
        return
    if not further:
        holder[name] = _in_kind(value, kind, path)
    elif listed:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise Unmappable(f"{path}: a list of objects should stand there, and something else does.")
        entries = [dict(entry) for entry in value]
        for entry in entries:
            _conform(entry, further, kind, path)
        holder[name] = entries
    else:
        if not isinstance(value, dict):
            raise Unmappable(f"{path}: an object should stand there, and something else does.")
        inner = dict(value)
        _conform(inner, further, kind, path)
        holder[name] = inner


def _in_kind(value: object, kind: str, path: str) -> object:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    found: object = MISSING
    match kind:
        case "number":
            found = number(value if not isinstance(value, float) else repr(value)) if is_number else number(value)
        case "text":
            found = value if isinstance(value, str) else str(value) if is_whole_number(value) else MISSING
        case "yes-no":
            found = value if isinstance(value, bool) else MISSING
        case "list":
            found = value if isinstance(value, list) else MISSING
        case "date":
            found = iso(value)
        case _:
            found = value
    if found is MISSING:
        raise Unmappable(f"{path} should be of the kind {kind}, and something else stands there.")
    return stored(found)
