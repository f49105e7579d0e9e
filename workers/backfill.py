"""Fetching what was missed: a provider's list, page by page, into the inbox, as if its webhooks came now.

Nothing is remembered between runs. What is in already, by its key, is left out, and what came by webhook is told to be
a repeat when it is ingested; so whoever was interrupted runs the command again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import sqlalchemy as sa

from afterglow import backfill
from afterglow.backfill import BackfillError, Missed, Page
from afterglow.language.catalog import Catalog
from afterglow.language.source import Backfill, BackfillList, Source
from db import bulk, events
from db.engine import Database
from db.intake import Received, receive
from db.tables import inbox

#: How often one page is asked for.
ATTEMPTS: Final = 8
#: A provider that asks for more patience than this is asked again by a later run.
WAIT_S_MAX: Final = 120.0
TIMEOUT_S: Final = 30.0
#: A page that is larger is none.
PAGE_BYTES_MAX: Final = 64 * 2**20


@dataclass(kw_only=True)
class Fetched:
    """What came of it so far."""

    pages: int = 0
    received: int = 0
    known: int = 0
    let_go: int = 0


@dataclass(kw_only=True)
class Fetcher:
    """Reads the lists of one source.

    Args:
      names: what the environment holds, by the source file's names.
      late_seconds: how long after it happened an event still starts flows; 0: never.
      sleep: waits for so many seconds.
    """

    database: Database
    catalog: Catalog
    source: Source
    names: Mapping[str, str]
    since: datetime
    until: datetime
    now: datetime
    late_seconds: int
    is_dry: bool = False
    sleep: Callable[[float], None] = time.sleep
    fetched: Fetched = field(default_factory=Fetched)

    def run(self, say: Callable[[Fetched], None]) -> Fetched:
        """Fetch everything.

        Raises:
          BackfillError: a page could not be had or read; what came before it stays in the inbox.
        """
        declared = self.source.backfill
        if declared is None:
            raise BackfillError(f"flows/sources/{self.source.name}.yaml has no `backfill`, so nothing can be fetched.")
        headers = {name: backfill.filled(value, self.names) for name, value in declared.headers.items()}
        with httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=False) as client:
            for wanted in declared.lists:
                for page in self._pages(client, declared, wanted):
                    self._take_in(page)
                    say(self.fetched)
        return self.fetched

    def _pages(self, client: httpx.Client, declared: Backfill, wanted: BackfillList) -> Iterator[Page]:
        address: str | None = backfill.first_page(wanted, self.names, self.since, self.until)
        while address is not None:
            answer = self._asked(client, address)
            if len(answer.content) > PAGE_BYTES_MAX:
                raise BackfillError("A page is larger than 64 MB; ask for fewer items a page in the source file.")
            page = backfill.read_page(
                self.catalog,
                self.source,
                wanted,
                address,
                {name.lower(): value for name, value in answer.headers.items()},
                answer.content,
                since=self.since,
                until=self.until,
                now=self.now,
                late_seconds=self.late_seconds,
            )
            self.fetched.pages += 1
            self.fetched.let_go += page.let_go
            yield page
            if page.next == address:
                raise BackfillError("The next page is this page again; what came before it stays in the inbox.")
            address = page.next
            if address is not None:
                self.sleep(1 / declared.per_second)

    def _asked(self, client: httpx.Client, address: str) -> httpx.Response:
        """The answer for a page, after as much patience as the provider asks for."""
        reason = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = client.get(address)
            except httpx.HTTPError as error:
                reason, wait = type(error).__name__, float(2 ** (attempt - 1))
            else:
                if answer.status_code == httpx.codes.OK:
                    return answer
                if answer.status_code in (401, 403):
                    variables = self.source.backfill.environment.values() if self.source.backfill else ()
                    raise BackfillError(
                        f"{self.source.name} answers {answer.status_code}: the token is wrong or may not read this; "
                        f"see {', '.join(variables)} and what flows/sources/{self.source.name}.yaml says about scopes."
                    )
                reason = f"status {answer.status_code}"
                if answer.status_code != 429 and answer.status_code < 500:
                    break
                wait = _patience(answer, self.now) or float(2 ** (attempt - 1))
            if wait > WAIT_S_MAX:
                break
            if attempt < ATTEMPTS:
                self.sleep(wait)
        raise BackfillError(
            f"{self.source.name} does not give page {self.fetched.pages + 1} ({reason}); what came before it is in, so "
            "run the command again later."
        )

    def _take_in(self, page: Page) -> None:
        """Put a page's elements into the inbox, save those that are there."""
        wanted = {one.key: one for one in page.missed}
        with self.database.reading() as connection:
            there = {key for _, key in events.digests(connection, [(self.source.name, key) for key in wanted])}
            c = inbox.c
            query = sa.select(c.key).where(c.source == self.source.name, bulk.among(c.key, sorted(wanted)))
            there |= set(connection.execute(query).scalars())
        new = [one for key, one in wanted.items() if key not in there]
        self.fetched.known += len(wanted) - len(new)
        self.fetched.received += len(new)
        if new and not self.is_dry:
            with self.database.writing() as connection:
                receive(connection, [self._received(one) for one in new], self.now)

    def _received(self, one: Missed) -> Received:
        return Received(self.source.name, one.key, one.digest, one.headers, one.body)


def _patience(answer: httpx.Response, now: datetime) -> float | None:
    """What Retry-After asks for, in seconds: a number, or a moment."""
    said = answer.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
