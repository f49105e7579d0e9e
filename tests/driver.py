"""A whole installation in one test: the shipped shop, a clock that jumps, and the real actors, called one by one.

with driving(database_url) as driver:
    driver.post("customer.created", consent="granted")
    driver.post("order.paid", {"order": {"id": "o1", "total": 40}}, stage="purchase")
    driver.at(days=2)
    driver.post("order.delivered", {"order": {"id": "o1"}})
    driver.at(days=30)
    assert driver.touchpoints() == [("first-order", "thank-you", "sent"), ...]
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any

import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import Document, compile_files
from db import bulk, catalog, occasions
from db.app import App, open_app
from db.clock import JumpingClock
from db.settings import load_settings
from db.tables import coupons, enrollments, identities, inbox, referrals, segment_looks, touchpoints
from workers.actors import Actors, make_actors
from workers.channels import Channel
from workers.scheduler import due_kinds

#: A Monday morning, nine o'clock in Paris, outside quiet hours.
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
SECRET = "a secret of the tests, 32 letters"
#: Whoever posts without saying who.
SAM = {"id": "c1", "email": "sam@example.com", "first_name": "Sam", "timezone": "Europe/Paris"}


@cache
def shop_files() -> Mapping[str, str]:
    """The shipped shop: text by path below its folder."""
    paths = [*ROOT.glob("flows/**/*.yaml"), *ROOT.glob("templates/email/*")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


@cache
def _compiled() -> tuple[Document, ...]:
    return compile_files(shop_files())


@dataclass(kw_only=True)
class Driver:
    """One installation. What is posted is done at once, unless `drained=False`."""

    app: App
    clock: JumpingClock
    actors: Actors
    keys: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def secret(self) -> bytes:
        """The installation's secret."""
        return self.app.settings.secrets[0]

    def post(
        self,
        event: str,
        payload: Mapping[str, Any] | None = None,
        *,
        stage: str | None = None,
        customer: Mapping[str, Any] | None = None,
        consent: str | None = None,
        topic: str = "*",
        key: str | None = None,
        occurred_at: datetime | None = None,
        drained: bool = True,
        account: Mapping[str, Any] | None = None,
    ) -> str:
        """Post an event in our own words, now. Its key."""
        key = key or f"event-{next(self.keys)}"
        body: dict[str, Any] = {
            "event": event,
            "key": key,
            "stage": stage,
            "customer": dict(customer or SAM),
            "payload": dict(payload or {}),
            "occurred_at": occurred_at.isoformat() if occurred_at else None,
        }
        if account:
            body["account"] = dict(account)
        if consent:
            body["consent"] = {"state": consent, "topic": topic}
        self.receive("api", key, json.dumps(body).encode(), drained=drained)
        return key

    def receive(self, source: str, key: str, body: bytes, *, drained: bool = True, headers: Any = None) -> None:
        """Put one raw element into the inbox, as the web does."""
        columns = ("source", "key", "digest", "state", "tries", "received_at", "headers", "body")
        row = (source, key, sha256(body).digest(), "received", 0, self.clock.now(), headers or {}, body)
        with self.app.writing() as connection:
            bulk.insert(connection, inbox, columns, [row], on_conflict="DO NOTHING")
        if drained:
            self.drain()

    def drain(self) -> None:
        """Let the actors work until nothing is due."""
        for _ in range(1000):
            with self.app.reading() as connection:
                kinds = due_kinds(connection, self.app)
            if not kinds:
                return
            for kind in kinds:
                getattr(self.actors, kind)()
        raise AssertionError(f"work never ends: {kinds}")

    def at(self, moment: datetime | None = None, **after_start: float) -> None:
        """Move the clock to an instant, or so long after START, and do everything at the moment it falls due.

        Args:
          after_start: as `timedelta` takes them: days, hours, minutes.
        """
        to = moment or START + timedelta(**after_start)
        self.actors.tend()
        self.drain()
        while (due := self._next_due()) is not None and due <= to:
            self.clock.jump(due)
            self.drain()
        self.clock.jump(to)
        self.actors.tend()
        self.drain()

    def _next_due(self) -> datetime | None:
        waiting = sa.select(sa.func.min(enrollments.c.due_at)).where(enrollments.c.state == "waiting")
        queued = sa.select(sa.func.min(touchpoints.c.due_at)).where(touchpoints.c.state == "queued")
        fetching = sa.select(sa.func.min(inbox.c.fetch_at)).where(inbox.c.state == "fetching")
        referred = sa.select(sa.func.min(referrals.c.due_at))
        asked = sa.select(sa.func.min(coupons.c.due_at))
        judged = sa.select(sa.func.min(segment_looks.c.due_at))
        with self.app.reading() as connection:
            queries = (waiting, queued, fetching, referred, asked, judged)
            found = [connection.execute(query).scalar() for query in queries]
            found.append(occasions.next_due(connection))
        return min((moment for moment in found if moment is not None), default=None)

    def apply(self, changed: Mapping[str, str | Callable[[str], str]] | None = None) -> None:
        """Put the shipped shop into force, with files replaced (text) or edited (a function of their text)."""
        files = dict(shop_files())
        for path, change in (changed or {}).items():
            files[path] = change if isinstance(change, str) else change(files[path])
        documents = compile_files(files) if changed else _compiled()
        with self.app.writing() as connection:
            catalog.apply(connection, documents, now=self.clock.now(), by="the tests")

    def rows(self, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self.app.reading() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def touchpoints(self) -> list[tuple[str, str, str]]:
        """(flow, step, state) of every touchpoint, in the order in which they were queued."""
        t = touchpoints.c
        return [(row[0], row[1], row[2]) for row in self.rows(sa.select(t.flow, t.step, t.state).order_by(t.id))]

    def customer(self, external_id: str = "c1") -> int:
        """Our number of the customer whom the API knows under this id."""
        i = identities.c
        query = sa.select(i.customer_id).where(i.source == "api", i.external_id == external_id)
        return int(self.rows(query)[0][0])


@contextmanager
def driving(
    database_url: str,
    *,
    files: Mapping[str, str | Callable[[str], str]] | None = None,
    start: datetime = START,
    email: Channel | None = None,
    **settings: object,
) -> Iterator[Driver]:
    """An installation on a migrated database, with the shipped shop in force.

    Args:
      files: changes to the shop's files, as `Driver.apply` takes them.
      email: another channel than the outbox.
    """
    clock = JumpingClock(start)
    chosen = load_settings(database_url=database_url, secret=SECRET.replace(" ", "-"), **settings)
    app = open_app(chosen, clock=clock, durable=False)
    try:
        actors = make_actors(app) if email is None else Actors(app=app, email=email)
        actors.register()
        driver = Driver(app=app, clock=clock, actors=actors)
        driver.apply(files)
        yield driver
    finally:
        app.close()
