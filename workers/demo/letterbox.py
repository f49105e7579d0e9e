"""The mails that were sent since the last look, as they lie in people's letterboxes."""

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import outbox
from db.app import App
from db.tables import TouchpointState, touchpoints
from workers.demo.reactions import Mail


class Letterbox:
    """Everybody's letterbox: it reads the outbox, where the demo's mails stay."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._seen: set[int] = set()

    def __len__(self) -> int:
        """How many mails there were."""
        return len(self._seen)

    def new(self, since: datetime) -> list[tuple[Mail, str | None]]:
        """The mails sent at or after an instant that were not seen yet, and the address of whom each is about.

        In an order that is the same whatever the ids: of time, then of address and step.
        """
        t = touchpoints.c
        query = sa.select(t.id).where(t.state == TouchpointState.SENT.value, t.settled_at >= since)
        with self._app.reading() as connection:
            ids = [row.id for row in connection.execute(query) if row.id not in self._seen]
            self._seen.update(ids)
            mails = list(self._opened(connection, ids))
        return sorted(mails, key=lambda found: (found[0].at, found[1] or "", found[0].flow, found[0].step))

    def _opened(self, connection: Connection, ids: list[int]) -> Iterator[tuple[Mail, str | None]]:
        for id_ in ids:
            letter = outbox.letter(connection, self._app.catalog, self._app.settings, id_)
            if letter is None or letter.rendered is None:
                continue
            row = letter.row
            mail = Mail(
                touchpoint=id_,
                at=row.settled_at,
                kind=row.kind,
                flow=row.flow,
                step=row.step,
                template=row.template,
                customer=row.customer_id,
                subject=letter.rendered.subject,
                text=letter.rendered.text,
                headers=dict(letter.headers),
            )
            yield mail, letter.person.email if letter.person else None
