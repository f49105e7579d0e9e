"""The sources in force, kept in memory: a webhook is judged without a look into the database."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
import structlog

from afterglow.errors import AfterglowError
from afterglow.language.source import Source
from afterglow.signatures import secret_problem
from db.app import App
from db.settings import source_secrets
from web.intake import IntakeUnavailable

log = structlog.get_logger()

#: Files put into force are seen after at most this many seconds ...
FRESH_S: Final = 1.0
#: ... and what is older than this is not judged by: after a quiet night, the first webhook waits for a look.
STALE_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """A source, and how its requests are told from a stranger's."""

    source: Source
    #: A name in SCHEMES; None where the file says `auth: none`.
    scheme: str | None
    secrets: tuple[bytes, ...] = field(repr=False)

    @property
    def is_open(self) -> bool:
        """Whether anything can be accepted: there is a secret, or the file says that none is needed."""
        return self.scheme is None or bool(self.secrets)


class Sources:
    """The guards of one process, refreshed off the request's path."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._guards: Mapping[str, Guard] | None = None
        self._looked_at = -STALE_S
        self._look: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    async def find(self, name: str) -> Guard | None:
        """The guard of a source; None where no such source is in force.

        Raises:
          IntakeUnavailable: when the sources were never read and cannot be read now.
        """
        guards = self._guards
        age = time.monotonic() - self._looked_at
        if guards is None or age > FRESH_S:
            look = self._start_looking()
            if guards is None or age > STALE_S or name not in guards:
                await asyncio.shield(look)
                guards = self._guards
        if guards is None:
            raise IntakeUnavailable("The sources cannot be read just now; post it again.")
        return guards.get(name)

    def _start_looking(self) -> "asyncio.Task[None]":
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self._refresh())
        return self._look

    async def _refresh(self) -> None:
        try:
            self._guards = await asyncio.to_thread(self._read)
        except (AfterglowError, sa.exc.SQLAlchemyError) as error:
            log.warning("the sources cannot be read", error=type(error).__name__)
        self._looked_at = time.monotonic()

    def _read(self) -> Mapping[str, Guard]:
        with self._app.reading() as connection:
            sources = self._app.catalog.current(connection).catalog.sources
        return {name: self._guard(source) for name, source in sources.items()}

    def _guard(self, source: Source) -> Guard:
        if source.auth == "none":
            return Guard(source=source, scheme=None, secrets=())
        variables = tuple(source.auth.secrets)
        secrets = source_secrets(variables)
        for secret in secrets:
            if problem := secret_problem(source.auth.scheme, secret):
                self._tell_once(f"A secret of the source '{source.name}' cannot be used: {problem}")
        return Guard(source=source, scheme=source.auth.scheme, secrets=secrets)

    def tell_closed(self, source: Source) -> None:
        """Say, when the first webhook comes for it, why a source accepts nothing: most shops use few of them."""
        variables = ", ".join(source.auth.secrets) if source.auth != "none" else ""
        self._tell_once(f"The source '{source.name}' is refused: none of {variables} is set; put its secret there.")

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            log.warning(sentence)
