"""Hold the tests of a flow against what can happen in this shop, and what its steps can do."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from afterglow.acting import STOP
from afterglow.decide import STAGE_LEFT
from afterglow.language.actions import Move, Redeem, SetFacts, Start, StopFlow, Webhook
from afterglow.language.check.supply import World
from afterglow.language.compiling import Path
from afterglow.language.flow.graph import Act, Flow, Notify, Send, Split
from afterglow.language.pieces import lacks
from afterglow.language.shop import Shop
from afterglow.language.testing import UNNAMED, CustomerModel, Expected, FlowTest, Happens, Says
from afterglow.mail.locales import parted
from afterglow.problems import Problem, did_you_mean

_KNOWN = frozenset(CustomerModel.model_fields)
#: What a customer brings along when a test begins; later, events say it.
_BEFORE = frozenset({"orders", "spent", "stage", "consent"})
#: A run ends with this where nothing is left of its order.
_UNWOUND = "unwound"


def check_tests(
    flow: Flow,
    world: World,
    shop: Shop | None,
    stages: Collection[str] | None,
    flows: Collection[str] | None,
) -> Iterator[Problem]:
    """Everything in a flow's tests that names what is not there; None where the file that says it cannot be read."""
    for test in flow.tests:
        for n, name in enumerate(test.beside):
            if flows is not None and name not in flows:
                message = f"There is no flow '{name}' to run beside this one.{did_you_mean(name, flows)}"
                yield flow.problem((*test.path, "beside", n), message)
        yield from _splits(flow, test)
        if shop is not None:
            yield from _customer(flow, test, shop)
            yield from _topics(flow, (*test.path, "customer", "consent"), test.consents, shop)
            yield from _account(flow, test, shop)
        for line in test.timeline:
            yield from _line(flow, line, world, shop, stages)
        for one in (*(test.expect or ()), *test.never):
            yield from _expected(flow, test, one)


def _splits(flow: Flow, test: FlowTest) -> Iterator[Problem]:
    splits = {step.id: [branch.name for branch in step.branches] for step in flow.steps.values() if type(step) is Split}
    for id_, branch in test.splits.items():
        path = (*test.path, "splits", id_)
        if id_ not in splits:
            yield flow.problem(path, f"The flow has no split '{id_}'.{did_you_mean(id_, splits)}")
        elif branch not in splits[id_]:
            meant = did_you_mean(branch, splits[id_])
            yield flow.problem(path, f"Split '{id_}' has no branch '{branch}'.{meant}")


def _customer(flow: Flow, test: FlowTest, shop: Shop) -> Iterator[Problem]:
    yield from _facts(flow, (*test.path, "customer"), test.customer, shop, _KNOWN)
    for line in test.timeline:
        yield from _facts(flow, (*line.path, "customer"), line.customer, shop, _KNOWN - _BEFORE)


def _account(flow: Flow, test: FlowTest, shop: Shop) -> Iterator[Problem]:
    accounts = shop.model.accounts
    known = {"name", *(accounts.attributes if accounts else ())}
    for name in test.account or ():
        if name not in known:
            message = f"'{name}' is nothing we know of companies; declare it in shop.yaml under accounts: attributes."
            yield flow.problem((*test.path, "account", name), message + did_you_mean(name, known))
    for line in test.timeline:
        if line.by is not None and line.by not in (roles := accounts.roles if accounts else []):
            message = f"There is no role '{line.by}' in shop.yaml under accounts.{did_you_mean(line.by, roles)}"
            yield flow.problem((*line.path, "by"), message)


def _facts(flow: Flow, path: Path, facts: Mapping[str, object], shop: Shop, known: frozenset[str]) -> Iterator[Problem]:
    known = known | shop.attributes.keys()
    for name in facts:
        if name not in known:
            message = f"'{name}' is nothing we know of customers; declare it in shop.yaml under attributes."
            yield flow.problem((*path, name), message + did_you_mean(name, known))


def _topics(flow: Flow, path: Path, said: Iterable[Says], shop: Shop) -> Iterator[Problem]:
    for one in said:
        if one.topic != "*" and one.topic not in shop.model.topics:
            meant = did_you_mean(one.topic, shop.model.topics)
            yield flow.problem((*path, one.topic), f"There is no topic '{one.topic}' in shop.yaml.{meant}")


def _line(
    flow: Flow, line: Happens, world: World, shop: Shop | None, stages: Collection[str] | None
) -> Iterator[Problem]:
    if line.stage is not None and stages is not None and line.stage not in stages:
        meant = did_you_mean(line.stage, stages)
        yield flow.problem((*line.path, "stage"), f"There is no stage '{line.stage}' in stages.yaml.{meant}")
    if shop is not None:
        yield from _topics(flow, (*line.path, "consent"), line.consents, shop)
    if not world.whole or (line.event in UNNAMED and line.event not in world.events):
        return
    if line.event not in world.events:
        hint = did_you_mean(line.event, world.events)
        hint = hint or " Events that come by the API alone are declared in shop.yaml under events."
        yield flow.problem((*line.path, "event"), f"No source brings an event '{line.event}'.{hint}")
        return
    carried = world.of_event(line.event)
    for name in line.payload if carried is not None else ():
        if carried is not None and name not in carried:
            message = f"{line.event} does not supply '{name}'.{did_you_mean(name, carried)}"
            yield flow.problem((*line.path, name), message)


def _expected(flow: Flow, test: FlowTest, one: Expected) -> Iterator[Problem]:
    if test.beside or lacks(flow.document.data, flow.pieces):
        return  # what other flows do, and a piece that cannot be read, is for the test itself to find out
    steps = flow.steps.values()
    match one.kind:
        case "send" | "skipped":
            known, what = {step.template for step in steps if type(step) is Send}, "sends no mail"
        case "notify":
            known, what = {step.team for step in steps if type(step) is Notify}, "notifies no team"
        case "stopped":
            stops = {rule.event for rule in flow.stops} | ({STAGE_LEFT} if flow.ends_with_stage else set())
            known, what = stops | {_UNWOUND, STOP}, "is not stopped by"
        case "finished":
            known, what = {flow.name}, "is not called"
        case "award":
            return  # the points may be those of an expression
        case kind:
            known, what = (
                {named for step in steps if type(step) is Act for named in _named(kind, step)},
                _DOES_NOT[kind],
            )
    if one.what not in known and not (one.kind == "send" and parted(one.what)[0] in known):
        meant = did_you_mean(one.what, known)
        yield flow.problem((*one.path, one.kind), f"This flow {what} '{one.what}'.{meant}")
    elif one.task is not None:
        tasks = {step.task.name for step in steps if type(step) is Notify and step.team == one.what and step.task}
        if one.task not in tasks:
            meant = did_you_mean(one.task, tasks)
            yield flow.problem((*one.path, "task"), f"This flow has no task '{one.task}' for {one.what}.{meant}")


#: What is said of a flow that does not do what a test expects, by the kind.
_DOES_NOT: Mapping[str, str] = {
    "redeem": "redeems no reward",
    "set": "does not set",
    "move": "moves nobody to stage",
    "start": "starts no flow",
    "stop_flow": "stops no flow",
    "webhook": "tells no system",
}


def _named(kind: str, step: Act) -> Iterator[str]:
    """What an expectation of a kind can name of an action."""
    match kind, step.does:
        case "redeem", Redeem(reward=name):
            yield name
        case "set", SetFacts() as facts:
            yield from facts.values
            yield from ["tags"] if facts.add or facts.remove else []
        case "move", Move(stage=name):
            yield name
        case "start", Start(flow=name):
            yield name
        case "stop_flow", StopFlow(flow=name):
            yield name
        case "webhook", Webhook(to=name):
            yield name
