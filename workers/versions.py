"""In which version of its flow each run of a batch goes on: the one it stands in, or the one in force.

Costs a query where any of the flows says `on_edit: move`, and one more where a run goes over; nothing otherwise.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from afterglow.decide import Decision, Run
from afterglow.language.flow.graph import Flow
from afterglow.moving import Passage, went_over
from db import enrollments
from db.catalog import Release

#: Older versions of flows, each with the number and the compiled file of the one that its runs go over to.
Newer = Mapping[int, tuple[int, Flow]]


def newer(flows: Mapping[int, Flow], ids: set[int], release: Release) -> Newer:
    """Which of the versions with these ids are left for the one in force."""
    found = {}
    for id_ in ids:
        name = flows[id_].name
        current = release.catalog.flows.get(name)
        if current is not None and current.moves and current.status != "draft" and release.flow_id(name) != id_:
            found[id_] = release.flow_id(name), current
    return found


class Versions:
    """The runs of one batch, given as rows with id, customer_id and flow_id."""

    def __init__(self, connection: Connection, rows: Sequence[Any], flows: Mapping[int, Flow], newer: Newer) -> None:
        self._newer = newer
        self._passages = {old: Passage(old=flows[old], new=new) for old, (_, new) in newer.items()}
        going = [row for row in rows if row.flow_id in newer]
        #: The version in which each run goes on.
        self.flows = {row.id: newer[row.flow_id][1] if row.flow_id in newer else flows[row.flow_id] for row in rows}
        self._queued = enrollments.queued(connection, {row.id for row in rows if self.flows[row.id].moves})
        self._since = enrollments.reached(connection, going) if going else {}

    def done(self, run: int) -> frozenset[str]:
        """The steps whose message a run has queued, by their names in the version in which it goes on."""
        renames = self.flows[run].renames
        return frozenset(renames.get(step, step) for step in self._queued.get(run, ()))

    def version(self, flow_id: int) -> int:
        """The number of the version that runs of this one go on in."""
        return self._newer[flow_id][0] if flow_id in self._newer else flow_id

    def over(self, row: Any, run: Run, zone: ZoneInfo, at: datetime) -> tuple[Run, Decision] | None:
        """A run as it stands in the version it goes over to, and what is noted of that; None where it stays."""
        passage = self._passages.get(row.flow_id)
        if passage is None:
            return None
        since = self._since.get(row.id) if run.until is not None else None
        last = next(reversed(self._queued.get(row.id, ())), None)
        moved = passage.over(run, since, last, zone, at)
        return moved, went_over(run, moved, row.flow_id, self.version(row.flow_id), since)
