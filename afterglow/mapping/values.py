"""Reading one value of a payload: what an expression comes to, in the shape the place for it wants."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, TypeGuard

from afterglow.expressions import MISSING
from afterglow.language.value import Value
from afterglow.mapping.facts import Unmappable

#: Longer ids, names and addresses are no such thing.
LONGEST_TEXT: Final = 500
#: No shop's event is older; seconds taken for milliseconds land in 1970.
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
#: Clocks differ; up to this an event from the future is taken as happening when it came.
FUTURE: Final = timedelta(days=1)
_LARGEST_STORED_INT: Final = 2**63

Facts = dict[str, object]


def value_of(wanted: Value, facts: Facts, place: str) -> object:
    """What an expression comes to; Unmappable where something stands there that it cannot read."""
    found = wanted.expression.value(facts)
    if found is MISSING and wanted.reads is not None and _at(facts, wanted.reads) not in (None, ""):
        raise Unmappable(f"{place} cannot be read from what came, by `{wanted.expression.text}`.")
    return found


def _at(facts: object, path: tuple[str | int, ...]) -> object:
    """What stands at a path, None if nothing does."""
    for step in path:
        if isinstance(facts, Mapping):
            facts = facts.get(step)
        elif isinstance(facts, list) and isinstance(step, int) and -len(facts) <= step < len(facts):
            facts = facts[step]
        else:
            return None
    return facts


def text(wanted: Value | None, facts: Facts, place: str) -> str | None:
    """A text, or a whole number as one; empty is nothing."""
    if wanted is None:
        return None
    found = value_of(wanted, facts, place)
    if found is MISSING or found is None:
        return None
    if is_whole_number(found):
        return str(found)
    if not isinstance(found, str):
        raise Unmappable(f"{place} should be text, and something else stands there.")
    if len(found) > LONGEST_TEXT:
        raise Unmappable(f"{place} is longer than {LONGEST_TEXT} characters.")
    return found.strip() or None


def is_whole_number(value: object) -> TypeGuard[int]:
    return type(value) is int


def moment(wanted: Value | None, facts: Facts, place: str, received_at: datetime) -> datetime | None:
    if wanted is None:
        return None
    found = value_of(wanted, facts, place)
    if found is MISSING or found is None or found == "":
        return None
    if not isinstance(found, datetime):
        raise Unmappable(f"{place} should be a moment; read it by `| iso`, `| epoch` or `| epoch_ms`.")
    if not EARLIEST <= found <= received_at + FUTURE:
        side = "before 1990" if found < EARLIEST else "more than a day after it came"
        raise Unmappable(f"{place} lies {side}; the unit or the clock of whoever sent it is wrong.")
    return found


def stored(value: object) -> object:
    """A value as payloads keep it: moments as text, whole numbers beyond 64 bits as Decimal."""
    kind = type(value)
    if kind is str or kind is bool or kind is Decimal or kind is float or value is None:
        return value
    if isinstance(value, int):
        return value if -_LARGEST_STORED_INT <= value < _LARGEST_STORED_INT else Decimal(value)
    if isinstance(value, dict):
        return {str(name): stored(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [stored(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)  # a day
