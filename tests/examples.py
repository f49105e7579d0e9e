"""How much properties are tried: all that they say by `make faults`, a part of it with the other tests."""

import os

LONG = os.environ.get("AFTERGLOW_FAULTS") == "long"
#: What the short form tries of the examples of a property, and how many it tries at least.
PART, FEWEST = 3, 10


def examples(number: int) -> int:
    """How many examples a property is tried on that asks for so many."""
    return number if LONG else max(min(number, FEWEST), number // PART)
