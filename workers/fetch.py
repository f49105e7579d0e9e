"""What webhooks leave out: documents of a source's API, fetched for elements that cannot be mapped without.

1. Claim due elements of one source, in a transaction that also sets when they will be tried next.
2. Map each with what it has, as `ingest` does, to find the document that it lacks (`afterglow.mapping.fetching`).
3. Ask for each URL once, in its turn and with no transaction open, under one deadline for the whole batch; then look
   again, since a document may lead to the next.
4. Write, in a transaction: who has everything goes back to `ingest`; the others wait, or are parked with the reason.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from afterglow.asking import TRIES_MAX, wait_after
from afterglow.language.catalog import Catalog
from afterglow.language.fetch import DOCUMENTS_MAX, Fetch
from afterglow.language.source import Source
from afterglow.mapping import Lacking, Unmappable, map_element
from db import fetching
from db.app import App
from db.clock import DatabaseClock
from db.fetching import Fetched
from db.settings import source_secrets
from db.tables import InboxState
from workers.asker import AT_ONCE, Answer, Asker, Document, Failed, Gone, NotAsked, Question

log = structlog.get_logger()

#: How many elements are claimed at once.
BATCH = 50
#: Rates and quiet are kept in real time, which every process reads from the database.
_real = DatabaseClock()


@dataclass(frozen=True, slots=True)
class _End:
    """What becomes of an element: its state, how long it waits where it waits, the tries that count, and why."""

    state: InboxState
    tries: int = 0
    wait: timedelta | None = None
    reason: str | None = None


@dataclass(kw_only=True, slots=True)
class _Element:
    """One claimed element and what becomes of it."""

    row: Any
    fetched: dict[str, object]
    lacks: Lacking | None = None
    end: _End | None = None

    def has(self, document: object) -> None:
        """Its document is there; None: it is gone."""
        assert self.lacks is not None
        self.fetched[self.lacks.name] = document


class Fetching:
    """One batch."""

    def __init__(self, app: App, asker: Asker) -> None:
        self.app = app
        self.asker = asker
        #: Elements that can be mapped now.
        self.freed = 0

    def run(self) -> int:
        """Do it. How many elements were claimed."""
        with self.app.writing() as connection:
            self._now = self.app.clock.now(connection)
            rows = fetching.claim(connection, self._now, BATCH)
            catalog = self.app.catalog.current(connection).catalog if rows else None
        if not rows or catalog is None:
            return 0
        elements = [_Element(row=row, fetched=dict(row.fetched or {})) for row in rows]
        source = catalog.sources.get(rows[0].source)
        if source is None or source.fetch is None:  # another file is in force by now: let it decide
            self._free(elements)
        else:
            self._fetch(elements, source, source.fetch, catalog)
        self._settle(elements)
        return len(rows)

    def _fetch(self, elements: Sequence[_Element], source: Source, fetch: Fetch, catalog: Catalog) -> None:
        headers = self._headers(source, fetch)
        if isinstance(headers, str):
            self._park(elements, headers)
            return
        self.asker.open()
        until = time.monotonic() + fetch.deadline.total_seconds()
        for _ in range(DOCUMENTS_MAX + 1):
            wanted: dict[str, list[_Element]] = {}
            for element in elements:
                if element.end is None and self._lacks(element, source, catalog):
                    assert element.lacks is not None
                    wanted.setdefault(element.lacks.url, []).append(element)
            if not wanted:
                return
            self._ask(wanted, source, fetch, headers, until)
        self._defer([element for element in elements if element.end is None], fetching.SOON)

    def _headers(self, source: Source, fetch: Fetch) -> Mapping[str, str] | str:
        """The header with the token; or why nothing can be asked."""
        if fetch.is_local and self.app.settings.fetch_local != "yes":
            return f"The source '{source.name}' may not fetch from this machine; correct its base."
        if fetch.token is None:
            return {}
        tokens = source_secrets((fetch.token,))
        if not tokens:
            return f"{fetch.token} is not set; put the token of '{source.name}' there, then retry."
        if not all(33 <= byte <= 126 for byte in tokens[0]):
            return f"The token in {fetch.token} cannot stand in a header; correct it, then retry."
        return fetch.headers(tokens[0].decode())

    def _lacks(self, element: _Element, source: Source, catalog: Catalog) -> bool:
        """Whether a document is still lacking; otherwise `ingest` can map it, or park it with the reason."""
        row = element.row
        try:
            outcome = map_element(
                source,
                row.headers,
                row.body,
                received_at=self.app.clock.moment(row.received_at, self._now),
                known_events=catalog.events,
                known_stages=catalog.stage_names,
                fetched=element.fetched,
            )
        except Unmappable:
            outcome = None
        element.lacks = outcome if isinstance(outcome, Lacking) else None
        if element.lacks is None:
            self._free([element])
        return element.lacks is not None

    def _ask(
        self,
        wanted: Mapping[str, Sequence[_Element]],
        source: Source,
        fetch: Fetch,
        headers: Mapping[str, str],
        until: float,
    ) -> None:
        """Give each element its document, or its end."""
        secret = self.app.settings.secrets[0]
        digests = {url: fetching.digest_of(secret, source.name, url) for url in wanted}
        with self.app.writing() as connection:
            shared = fetching.share(connection, digests.values(), self.app.clock.now(connection))
        ours = [url for url in wanted if digests[url] in shared.ours]
        answers: dict[str, Answer] = {}
        wait: timedelta | None = None
        try:
            for start in range(0, len(ours), AT_ONCE):
                urls = ours[start : start + AT_ONCE]
                asked, wait = self._in_turn(urls, source, fetch, headers, until)
                answers |= asked
                if wait is not None:
                    break
        finally:
            kept: dict[str, object] = {}
            for url, answer in answers.items():
                if isinstance(answer, Document | Gone):
                    kept[digests[url]] = answer.content if isinstance(answer, Document) else None
            with self.app.writing() as connection:
                fetching.keep(connection, kept, shared.ours, self.app.clock.now(connection) + fetch.cache)
        for url, elements in wanted.items():
            if digests[url] in shared.known:
                for element in elements:
                    element.has(shared.known[digests[url]])
            elif digests[url] in shared.ours:
                self._answered(elements, answers.get(url, NotAsked()), source, fetch, wait)
            else:
                self._defer(elements, fetching.SOON)

    def _in_turn(
        self, urls: Sequence[str], source: Source, fetch: Fetch, headers: Mapping[str, str], until: float
    ) -> tuple[dict[str, Answer], timedelta | None]:
        """Ask for as many as have a turn before the deadline; and for how long the source cannot take the others."""
        left = until - time.monotonic()
        if left <= 0:
            return {}, timedelta(0)
        with self.app.writing() as connection:
            now = _real.now(connection)
            began = time.monotonic()
            taken = fetching.take_turns(
                connection, source.name, fetch.rate, now, len(urls), now + timedelta(seconds=left)
            )
        late = fetch.rate.lateness.total_seconds()
        questions = [
            Question(url=url, at=(at := began + (turn - now).total_seconds()), late=at + late)
            for url, turn in zip(urls, taken.turns.at, strict=False)
        ]
        answers = self.asker.ask(questions, headers, until - time.monotonic())
        wait = taken.free_at - now if len(questions) < len(urls) else None
        quiet = [answer.quiet for answer in answers if isinstance(answer, Failed) and answer.quiet is not None]
        if quiet:
            wait = max(quiet)
            with self.app.writing() as connection:
                fetching.pause(connection, source.name, _real.now(connection) + wait)
            log.warning("a source asks for quiet", source=source.name, seconds=int(wait.total_seconds()))
        return dict(zip((question.url for question in questions), answers, strict=True)), wait

    def _answered(
        self, elements: Sequence[_Element], answer: Answer, source: Source, fetch: Fetch, wait: timedelta | None
    ) -> None:
        match answer:
            case Document(content):
                for element in elements:
                    element.has(content)
            case Gone():
                for element in elements:
                    element.has(None)
            case NotAsked():
                self._defer(elements, wait or timedelta(0))
            case Failed(refused=True):
                self._park(elements, f"The token in {fetch.token} is refused by '{source.name}'; renew it, then retry.")
            case Failed():
                for element in elements:
                    self._failed(element, answer, source)

    def _failed(self, element: _Element, answer: Failed, source: Source) -> None:
        assert element.lacks is not None
        tries = element.row.tries
        said = f"The source '{source.name}' {answer.what} when it was asked for its {element.lacks.name}"
        if answer.for_good:
            self._park([element], f"{said}.")
        elif tries >= TRIES_MAX:
            self._park([element], f"{said}, {tries} times; retry when it answers again.")
        else:
            wait = max(wait_after(tries), answer.quiet or timedelta(0))
            element.end = _End(InboxState.FETCHING, tries, wait, f"{said}; it is asked again.")

    def _free(self, elements: Iterable[_Element]) -> None:
        for element in elements:
            element.end = _End(InboxState.RECEIVED)

    def _defer(self, elements: Iterable[_Element], wait: timedelta) -> None:
        """Nothing was asked for them: they come again, and no try is counted."""
        for element in elements:
            element.end = _End(InboxState.FETCHING, element.row.tries - 1, wait)

    def _park(self, elements: Iterable[_Element], reason: str) -> None:
        for element in elements:
            element.end = _End(InboxState.PARKED, element.row.tries, reason=reason)

    def _settle(self, elements: Sequence[_Element]) -> None:
        with self.app.writing() as connection:
            now = self.app.clock.now(connection)
            ends = [
                Fetched(
                    id=element.row.id,
                    state=end.state,
                    fetch_at=None if end.wait is None else now + end.wait,
                    tries=end.tries,
                    reason=end.reason,
                    fetched=element.fetched or None,
                )
                for element in elements
                if (end := element.end) is not None
            ]
            written = fetching.settle(connection, ends, {element.row.id: element.row.tries for element in elements})
        self.freed = sum(end.state is InboxState.RECEIVED for end in written)
        parked = sum(end.state is InboxState.PARKED for end in written)
        if parked:
            log.warning(
                "elements parked, their documents cannot be fetched", source=elements[0].row.source, rows=parked
            )
