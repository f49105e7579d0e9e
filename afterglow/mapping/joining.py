"""One sale told by several sources: what the others say is added to what the owner said, and replaces nothing."""

from collections.abc import Mapping


def joined(told: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object] | None:
    """A payload with whatever it lacked; None where nothing was lacking. Groups are joined field by field."""
    result = dict(told)
    for name, value in more.items():
        mine = result.get(name)
        if mine is None and value is not None:
            result[name] = value
        elif isinstance(mine, Mapping) and isinstance(value, Mapping):
            result[name] = joined(mine, value) or mine
    return result if result != told else None
