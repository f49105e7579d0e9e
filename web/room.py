"""Room that sources share: whoever floods fills his share of it, and never what others need."""

from typing import Final


class Room:
    """So much of something. A source may hold at most as much as it leaves free for all others together.

    So one that floods gets half, a second one a quarter, and there is always something left for the next: no source
    needs a number of its own, and one that is alone is not held back before half (after Choudhury and Hahne, "Dynamic
    queue length thresholds", 1998).
    """

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._taken = 0
        self._by_source: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """How much is held in all."""
        return self._taken

    def take(self, source: str, amount: int) -> bool:
        """Take some, if there is room for this source. What is too large for any room may come in alone."""
        held, free = self._by_source.get(source, 0), self._size - self._taken - amount
        if self._taken and (free < 0 or (held and held + amount > free)):
            return False
        self._by_source[source] = held + amount
        self._taken += amount
        return True

    def is_full_for(self, source: str) -> bool:
        """Whether this source gets nothing more just now, however little."""
        held, free = self._by_source.get(source, 0), self._size - self._taken
        return self._taken > 0 and (free < 1 or (held > 0 and held + 1 > free - 1))

    def leave(self, source: str, amount: int) -> None:
        """Give back what was taken."""
        self._taken -= amount
        if left := self._by_source[source] - amount:
            self._by_source[source] = left
        else:
            del self._by_source[source]
