"""Facts of every kind that an expression may meet, for property tests; and an object that tells when it is touched."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from afterglow.expressions import MISSING


class Tempting:
    """An object whose every attribute, method, item and comparison tells that it was touched."""

    def __init__(self, touched: list[str]) -> None:
        object.__setattr__(self, "touched", touched)

    def __getattribute__(self, name: str) -> object:
        if name != "__class__":  # isinstance() asks for it; it is not reached by any expression
            object.__getattribute__(self, "touched").append(name)
        return object.__getattribute__(self, name)

    def __getitem__(self, key: object) -> object:
        object.__getattribute__(self, "touched").append(f"[{key!r}]")
        return "taken"

    def __eq__(self, other: object) -> bool:
        object.__getattribute__(self, "touched").append("==")
        return True

    def __bool__(self) -> bool:
        object.__getattribute__(self, "touched").append("bool")
        return True

    __hash__ = None  # type: ignore[assignment]


MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), ZoneInfo("America/New_York")]))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=20)
    | MOMENTS | st.datetimes() | st.dates() | st.just(10**4_000) | st.just(Decimal("1E+999999"))
    | st.just(object())
)  # fmt: skip
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b", "c", "x", "0"]), inner, max_size=4)
    ),
    max_leaves=10,
)
PLAIN = (str, int, Decimal, bool, datetime, date, list, dict, type(None), type(MISSING))
