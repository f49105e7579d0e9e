"""Where customers can get to in a flow, and what has certainly, possibly or never come by then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from afterglow.language.compiling import Path
from afterglow.language.flow.graph import Flow, Step, WaitFor, next_steps, walk


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """The waits that have received their event before a step: on every way to it, on at least one.

    `by` says which events that may have been, as (step, event).
    """

    surely: frozenset[str]
    perhaps: frozenset[str]
    by: frozenset[tuple[str, str]]

    def with_answer(self, step: str, event: str) -> "Arrived":
        """The same after this step received this event."""
        return Arrived(surely=self.surely | {step}, perhaps=self.perhaps | {step}, by=self.by | {(step, event)})


def arrivals(flow: Flow) -> Mapping[str, Arrived]:
    """For every step that can be reached: which waits have received their event before it."""
    if flow.first is None:
        return {}
    known = {flow.first: Arrived(surely=frozenset(), perhaps=frozenset(), by=frozenset())}
    ahead = [flow.first]
    while ahead:
        here = flow.steps[ahead.pop()]
        for to, came in _ways_on(here, known[here.id]):
            before = known.get(to)
            now = came if before is None else Arrived(
                surely=before.surely & came.surely, perhaps=before.perhaps | came.perhaps, by=before.by | came.by
            )  # fmt: skip
            if now != before:
                known[to] = now
                ahead.append(to)
    return known


def _ways_on(step: Step, before: Arrived) -> Iterator[tuple[str, Arrived]]:
    if isinstance(step, WaitFor):
        for awaited in step.awaited:
            if awaited.first is not None:
                yield awaited.first, before.with_answer(step.id, awaited.event)
        if step.timed_out is not None:
            yield step.timed_out, before
        return
    for to in next_steps(step):
        if to is not None:
            yield to, before


def first_unreachable(flow: Flow) -> list[Step]:
    """The steps nobody can reach; of several that follow one another or lie within one, the first."""
    reached = {step.id for step in walk(flow)}
    paths: dict[Path, Step] = {step.path: step for step in flow.steps.values() if step.id not in reached}
    return [
        step
        for path, step in paths.items()
        if not any(path[:n] in paths for n in range(len(path))) and not _follows_one(path, paths)
    ]


def _follows_one(path: Path, paths: Mapping[Path, Step]) -> bool:
    last = path[-1]
    return isinstance(last, int) and (*path[:-1], last - 1) in paths
