"""Tests of flows, lived in memory on a clock that jumps: the `tests` of flow files, in milliseconds each.

`live` is no second engine. What starts, what a step does, whether a mail may go and what it says are decided by the
functions that production calls: `starting`, `decide`, `touchpoint`, `rails`, `letters`. What stands here is only the
memory between them, for one customer; a property test holds it to the workers and the database. `judge` compares what
happened with what was expected, `report` tells it.

- `memory`: what production keeps in tables;
- `life`: the clock, and the taking in of events; `stepping`, `delivering` and `unwinding`: what workers do with them;
- `living`: the customer of a test, and their days.
"""

from afterglow.testing.living import live
from afterglow.testing.memory import Lived, ShopUnderTest
from afterglow.testing.verdict import Difference, Verdict, judge

__all__ = ["Difference", "Lived", "ShopUnderTest", "Verdict", "judge", "live"]
