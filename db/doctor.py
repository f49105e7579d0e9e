"""Proof that nothing is lost: every open run waits for exactly one thing, and nothing stands still unseen.

Most of what is looked for here is forbidden by a constraint too; the doctor looks because a restored dump, a repair by
hand or a mistake of ours may have gone around it, and because the constraint itself may be gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dramatiq
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.flow.graph import Flow, Until, UntilDate, Wait, WaitFor
from db import alarms, checks
from db.broker import KINDS, BrokerUnavailableError, HintBroker, check_broker, key_of
from db.catalog import CatalogCache, NothingAppliedError, Release
from db.checks import REPORT, WORKERS, Check, Severity
from db.events import FIRST
from db.settings import Settings
from db.tables import enrollments, metadata

#: More hints than any number of hinting processes leaves waiting while somebody listens.
HINTS_MAX = 10_000
#: How many offenders a finding names.
EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it must be (error), or that a person should look at (warning).

    `examples` are ids of the rows in question, the first few of `count`.
    """

    check: str
    severity: Severity
    what: str
    count: int
    examples: tuple[Any, ...]
    what_to_do: str

    def __str__(self) -> str:
        named = f" ({', '.join(str(one) for one in self.examples)}{', ...' if self.count > len(self.examples) else ''})"
        return f"{self.severity}: {self.count} {self.what}{named if self.examples else ''}. {self.what_to_do}"


def examine(
    connection: Connection, now: datetime, settings: Settings, *, catalog: CatalogCache | None = None
) -> list[Finding]:
    """Everything that is wrong, errors first. An empty list is a clean bill of health.

    Args:
      settings: says how long raw webhooks are kept.
      catalog: the process's own, where it has one, so that no flow is compiled twice.
    """
    catalog = catalog or CatalogCache()
    try:
        release: Release | None = catalog.current(connection)
    except NothingAppliedError:
        release = None
    found = [
        finding
        for check in (
            *checks.book_keeping(now),
            *checks.stuck(connection, now, settings, release),
            *checks.people(),
            *checks.boards(),
            *checks.set_aside(now),
        )
        if (finding := _asked(connection, check))
    ]
    found += _steps(connection, catalog)
    found += _promises(connection)
    if release is not None:
        found += _alarms(connection, release, now)
    return sorted(found, key=lambda finding: finding.severity != "error")


def exit_status(found: Sequence[Finding]) -> int:
    """1 where something is wrong; warnings alone are 0."""
    return int(any(finding.severity == "error" for finding in found))


def _asked(connection: Connection, check: Check) -> Finding | None:
    examples = connection.execute(check.query.limit(EXAMPLES)).scalars().all()
    if not examples:
        return None
    count = len(examples)
    if count == EXAMPLES:
        count = connection.execute(sa.select(sa.func.count()).select_from(check.query.subquery())).scalar_one()
    return Finding(
        check=check.name,
        severity=check.severity,
        what=check.what,
        count=count,
        examples=tuple(examples),
        what_to_do=check.what_to_do,
    )


def _steps(connection: Connection, catalog: CatalogCache) -> list[Finding]:
    """Open runs stand on steps that their version of the flow has, and wait only where one can wait."""
    e = enrollments.c
    begun = e.until.is_not(None)
    rows = connection.execute(
        sa.select(
            e.flow_id, e.step, begun.label("begun"), sa.func.count().label("n"), sa.func.min(e.id).label("example")
        )
        .where(e.state.in_(["waiting", "sending", "paused", "parked"]))
        .group_by(e.flow_id, e.step, begun)
    ).all()
    flows: Mapping[int, Flow] = catalog.flows(connection, sorted({row.flow_id for row in rows}))
    lost, astray = [], []
    for row in rows:
        flow = flows.get(row.flow_id)
        if flow is None or (row.step not in (None, FIRST) and row.step not in flow.steps):
            lost.append(row)
        elif row.begun and not isinstance(flow.steps.get(row.step), Wait | Until | UntilDate | WaitFor):
            astray.append(row)
    return [
        Finding(
            check=name,
            severity="error",
            what=what,
            count=sum(row.n for row in rows),
            examples=tuple(row.example for row in rows[:EXAMPLES]),
            what_to_do=REPORT,
        )
        for name, rows, what in (
            ("step that is not there", lost, "runs stand on a step that their version of the flow does not have"),
            ("waiting nowhere", astray, "runs have a deadline on a step that waits for nothing"),
        )
        if rows
    ]


def _alarms(connection: Connection, release: Release, now: datetime) -> list[Finding]:
    """Sources that fell silent, and paths that are no longer filled."""
    zone = release.catalog.shop.zone
    found = []
    for alarm in alarms.raised(connection):
        what, _, what_to_do = alarm.sentence(now, zone).partition(". ")
        check = f"{alarm.kind} of {alarm.source}"
        found.append(Finding(check=check, severity="warning", what=what, count=1, examples=(), what_to_do=what_to_do))
    return found


#: What must never be there twice, as columns by table: the primary keys and UNIQUE constraints that we promise.
PROMISED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    table.name: tuple(
        sorted(
            tuple(column.name for column in constraint.columns)
            for constraint in table.constraints
            if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint)
        )
    )
    for table in metadata.sorted_tables
}


def _promises(connection: Connection) -> list[Finding]:
    """Each promise of uniqueness is still kept by the database; only where one is not are doubles looked for."""
    inspector = sa.inspect(connection)
    found = []
    for name, promised in PROMISED.items():
        kept = {frozenset(one["column_names"]) for one in inspector.get_unique_constraints(name)}
        kept.add(frozenset(inspector.get_pk_constraint(name)["constrained_columns"]))
        for columns in promised:
            if frozenset(columns) in kept:
                continue
            doubles = _doubles(connection, metadata.tables[name], columns)
            found.append(
                Finding(
                    check="promise not kept",
                    severity="error",
                    what=f"keys stand twice in {name} by ({', '.join(columns)}), and its UNIQUE constraint is gone",
                    count=len(doubles),
                    examples=tuple(doubles[:EXAMPLES]),
                    what_to_do="Delete the doubles, and make the constraint again as in db/tables/.",
                )
            )
    return found


def _doubles(connection: Connection, table: sa.Table, columns: Sequence[str]) -> list[str]:
    named = [table.c[column] for column in columns]
    rows = connection.execute(sa.select(*named).group_by(*named).having(sa.func.count() > 1).limit(1000))
    return [" ".join(value.hex() if isinstance(value, bytes) else str(value) for value in row) for row in rows]


def examine_broker(broker: dramatiq.Broker) -> list[Finding]:
    """Whether hints arrive. A lost one costs half a second; a full queue is a sign that nobody listens."""
    try:
        check_broker(broker)
    except BrokerUnavailableError as error:
        finding = Finding(
            check="broker",
            severity="error",
            what=f"broker does not answer: {error}",
            count=1,
            examples=(),
            what_to_do="Nothing is lost meanwhile; work goes on when it is back.",
        )
        return [finding]
    if not isinstance(broker, HintBroker):
        return []
    waiting = {kind: int(broker.client.llen(key_of(kind))) for kind in KINDS}
    return [
        Finding(
            check="hints pile up",
            severity="error",
            what=f"hints to {kind} lie in Redis and nobody takes them",
            count=count,
            examples=(),
            what_to_do=WORKERS,
        )
        for kind, count in waiting.items()
        if count > HINTS_MAX
    ]
