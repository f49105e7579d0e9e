"""Hold what steps do besides sending against the rest of the shop, and flows that set each other going."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from afterglow import acting
from afterglow.expressions import Expression
from afterglow.language.actions import Award, Move, Redeem, SetFacts, Start, StopFlow, Webhook
from afterglow.language.compiling import Path
from afterglow.language.flow.graph import Act, Flow, walk
from afterglow.language.shop import Kind, Shop
from afterglow.problems import Problem, did_you_mean

#: The rewards of each loyalty programme.
Rewards = Mapping[str, Collection[str]]


def check_action(
    flow: Flow,
    step: Act,
    shop: Shop | None,
    stages: Collection[str] | None,
    flows: Collection[str] | None,
    rewards: Rewards | None,
) -> Iterator[Problem]:
    """What an action names that is not there; None where the file that says it cannot be read."""
    match step.does:
        case Award(programme=programme):
            yield from _programme(flow, step, programme, rewards)
        case Redeem(programme=programme, reward=reward):
            yield from _programme(flow, step, programme, rewards)
            if rewards is not None and programme in rewards and reward not in rewards[programme]:
                meant = did_you_mean(reward, rewards[programme])
                yield flow.problem((*step.path, "redeem"), f"'{programme}' has no reward '{reward}'.{meant}")
        case SetFacts(values=values) if shop is not None:
            known = shop.model.attributes
            for name in values:
                if name not in known:
                    message = f"'{name}' is no attribute of customers; declare it in shop.yaml under attributes."
                    yield flow.problem((*step.path, "set", name), message + did_you_mean(name, [*known, "tags"]))
        case Move(stage=stage) if stages is not None and stage not in stages:
            meant = did_you_mean(stage, stages)
            yield flow.problem((*step.path, "move"), f"There is no stage '{stage}' in stages.yaml.{meant}")
        case Start(flow=named):
            yield from _flow(flow, (*step.path, "start"), named, flows)
        case StopFlow(flow=named):
            yield from _flow(flow, (*step.path, "stop_flow"), named, flows)
            if named == flow.name:
                yield flow.problem((*step.path, "stop_flow"), "A flow ends its own run with `stop: true`.")
        case Webhook(to=to) if shop is not None and to not in shop.model.webhooks:
            meant = did_you_mean(to, shop.model.webhooks)
            message = f"shop.yaml names no webhook '{to}'; add it under webhooks, with its url and secret.{meant}"
            yield flow.problem((*step.path, "webhook"), message)
        case _:
            pass


def _programme(flow: Flow, step: Act, programme: str, rewards: Rewards | None) -> Iterator[Problem]:
    if rewards is not None and programme not in rewards:
        meant = did_you_mean(programme, rewards)
        message = f"There is no loyalty programme '{programme}' in flows/programmes.{meant}"
        yield flow.problem((*step.path, "programme"), message)


def _flow(flow: Flow, path: Path, named: str, flows: Collection[str] | None) -> Iterator[Problem]:
    if flows is not None and named not in flows:
        yield flow.problem(path, f"There is no flow '{named}'.{did_you_mean(named, flows)}")


def expressions_of(step: Act) -> Iterator[tuple[Path, Expression]]:
    """The expressions of an action, each with its place."""
    match step.does:
        case Award(points=points):
            yield (*step.path, "award"), points
        case SetFacts(values=values):
            yield from (((*step.path, "set", name), value) for name, value in values.items())
        case Start(given=given) | Webhook(given=given):
            yield from (((*step.path, "given", name), value) for name, value in given.items())
        case _:
            pass


def wrong_kind(step: Act, path: Path, kind: str, attributes: Mapping[str, Kind]) -> str | None:
    """What is wrong with the kind of an expression of an action, as far as files say it; None where it may fit."""
    if kind == "unknown":
        return None
    match step.does:
        case Award() if kind != "number":
            return f"Points are a number, and this is {_a(kind)}."
        case SetFacts() if (wanted := attributes.get(str(path[-1]))) is not None:
            fits = kind == wanted or {kind, wanted} == {"text", "date"}
            return None if fits else f"'{path[-1]}' is {_a(wanted)}, and this is {_a(kind)}."
        case _:
            return None


def _a(kind: str) -> str:
    return "yes or no" if kind == "yes-no" else f"a {kind}"


# Flows that set each other going


def check_circles(flows: Sequence[Flow]) -> Iterator[Problem]:
    """Flows that would start one another for ever, told once for each circle, at the step that closes it.

    A circle is broken by a flow that has `once_per` and does not `reenter: always`: it ends after one round for each.
    """
    unbounded = {flow.name: flow for flow in flows if flow.status != "draft" and not _is_bounded(flow)}
    onward = {name: _onward(flow, unbounded) for name, flow in unbounded.items()}
    told: set[frozenset[str]] = set()
    for name in sorted(onward):
        way = _way_back(name, onward)
        if way and (circle := frozenset(flow for _, flow in way)) not in told:
            told.add(circle)
            step = way[0][0]
            flow = unbounded[name]
            through = " -> ".join([name, *(after for _, after in way)])
            yield flow.problem(
                step.path,
                f"This goes round for ever: {through}. Give one of them `once_per: customer.id`, and with `reenter` "
                "how soon it may run again, such as `after 30 days`.",
            )


def _onward(flow: Flow, flows: Mapping[str, Flow]) -> list[tuple[Act, str]]:
    """The flows that a flow sets going, each with the step that does."""
    acts = [step for step in walk(flow) if isinstance(step, Act)]
    return [(step, other.name) for step in acts for other in _set_going(step, flows)]


def _is_bounded(flow: Flow) -> bool:
    return flow.once_per is not None and (flow.reenter is None or flow.reenter.text != "at any time")


def _set_going(step: Act, flows: Mapping[str, Flow]) -> Iterator[Flow]:
    """The flows that may start by what a step does."""
    does = step.does
    events = _told(step)
    for flow in flows.values():
        by_stage = isinstance(does, Move) and flow.stage == does.stage
        by_name = isinstance(does, Start) and does.flow == flow.name
        if by_stage or by_name or flow.event in events:
            yield flow


def _told(step: Act) -> frozenset[str]:
    """The events that come of a step."""
    match step.does:
        case Award():
            return frozenset({acting.AWARDED, "points.earned", "tier.reached"})
        case Redeem():
            return frozenset({acting.REDEEM, acting.REDEEMED, acting.REFUSED})
        case SetFacts():
            return frozenset({acting.SET})
        case Move():
            return frozenset({acting.MOVED})
        case Start():
            return frozenset({acting.ASKED})
        case StopFlow():
            return frozenset({acting.STOP})
        case _:
            return frozenset({acting.POSTED})


def _way_back(start: str, onward: Mapping[str, Sequence[tuple[Act, str]]]) -> list[tuple[Act, str]]:
    """The shortest way from a flow back to itself; nothing where there is none."""
    ways: list[list[tuple[Act, str]]] = [[hop] for hop in onward[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        last = way[-1][1]
        if last == start:
            return way
        if last not in seen:
            seen.add(last)
            ways += [[*way, hop] for hop in onward[last]]
    return []
