"""The people in pictures: who stands on the steps of a flow, and in the stages of the journey."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from afterglow.language.flow.graph import Flow
from afterglow.pictures import Figures, Here
from db.occupancy import COUNTED_MAX, STANDING, Occupancy
from db.tables import customers


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """People by stage; `of` is how many customers were looked at where not all."""

    people: Mapping[str, int]
    of: int | None


def stages(connection: Connection) -> Stages:
    """Who stands in which stage, among the newest customers. Forgotten ones and those who were merged are nobody."""
    c = customers.c
    newest = sa.select(c.stage, c.merged_into, c.forgotten_at).order_by(c.id.desc()).limit(COUNTED_MAX).subquery()
    n = newest.c
    is_person = sa.and_(n.merged_into.is_(None), n.forgotten_at.is_(None), n.stage.is_not(None))
    people = sa.func.sum(sa.case((is_person, 1), else_=0))
    rows = connection.execute(sa.select(n.stage, sa.func.count(), people).group_by(n.stage)).all()
    looked = sum(count for _, count, _ in rows)
    return Stages(
        people={stage: int(people) for stage, _, people in rows if people},
        of=COUNTED_MAX if looked == COUNTED_MAX else None,
    )


def on_steps(standing: Occupancy, flow: Flow, *, linked: bool = False) -> dict[str, Here]:
    """The people on each step of a flow; those whose mail is on its way are among them.

    Args:
      linked: with the addresses of the pages that list them.
    """
    return {step: _here(standing, flow.name, step, linked=linked) for step in flow.steps}


def on_journey(standing: Occupancy, stages: Stages, flows: Iterable[str], *, linked: bool = False) -> Figures:
    """The people in each stage, and inside each flow."""
    return Figures(
        stages={name: Here(people=count) for name, count in stages.people.items()},
        flows={name: _here(standing, name, None, linked=linked) for name in flows},
    )


def _here(standing: Occupancy, flow: str, step: str | None, *, linked: bool) -> Here:
    people = standing.inside(flow, step)
    state = next((state for state in STANDING if standing.inside(flow, step, state)), None)
    words = {"flow": flow, "step": step, "state": state}
    query = urlencode({name: word for name, word in words.items() if word is not None})
    page = "/runs" if state else "/outbox"  # who stands nowhere has a mail on its way
    return Here(
        people=people,
        troubled=standing.inside(flow, step, "parked"),
        href=f"{page}?{query}" if linked and people else None,
    )
