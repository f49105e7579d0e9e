"""What time it is. Everything below the shell takes `now` as a parameter; this is where it comes from."""

import threading
from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self, connection: Connection | None = None) -> datetime:
        """The present instant, from the database's own clock where a connection is given and it has one."""

    def moment(self, due_at: datetime, now: datetime) -> datetime:
        """The instant at which an item that fell due at `due_at` counts as being decided, when claimed at `now`."""


class DatabaseClock:
    """The real time: the database's clock, so that processes on machines with wrong clocks still agree."""

    def now(self, connection: Connection | None = None) -> datetime:
        if connection is not None and connection.dialect.name == "postgresql":
            now: datetime = connection.execute(_POSTGRESQL_NOW).scalar_one()
            return now
        return datetime.now(UTC)

    def moment(self, due_at: datetime, now: datetime) -> datetime:
        return now


class JumpingClock:
    """A clock that stands still until it is told to jump: months pass in seconds through the same code.

    Time moves in slices. Whatever falls due inside a slice is decided at its own due moment, not at the slice's end.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._up_since = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self, connection: Connection | None = None) -> datetime:
        with self._lock:
            return self._now

    def moment(self, due_at: datetime, now: datetime) -> datetime:
        return min(max(due_at, self._up_since), now)

    def jump(self, to: datetime) -> None:
        """Move forward to `to`; never back."""
        with self._lock:
            self._now = max(self._now, to)

    def outage(self, until: datetime) -> None:
        """Move forward as if nobody had worked meanwhile: what fell due is decided late, from `until` on."""
        self.jump(until)
        self._up_since = self._now


_POSTGRESQL_NOW = sa.text("SELECT clock_timestamp()")
