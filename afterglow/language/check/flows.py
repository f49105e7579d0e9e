"""Hold one flow against the rest of the shop's files."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from afterglow.expressions import FUNCTIONS, Expression, Text
from afterglow.expressions.parse import Reader
from afterglow.language.check.actions import Rewards, check_action, expressions_of, wrong_kind
from afterglow.language.check.rails import check_rails
from afterglow.language.check.reach import Arrived, arrivals, first_unreachable
from afterglow.language.check.reading import read_blocks, read_expression
from afterglow.language.check.starts import check_occasion
from afterglow.language.check.supply import Names, Shape, World, all_merged, kind_of_shape
from afterglow.language.check.testing import check_tests
from afterglow.language.compiling import Path
from afterglow.language.flow.graph import Act, Flow, If, Notify, Send, UntilDate, WaitFor, walk
from afterglow.language.segment import ENTERED
from afterglow.language.shop import Shop
from afterglow.mail.locales import parted
from afterglow.problems import Problem, did_you_mean

NO_ADDRESS = "decisions are kept, so conditions read no addresses; use customer.id"
#: What is known of every company.
_OF_ALL = frozenset({"id", "name"})
NOT_BOTH = "`same` compares what both events carry."


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a flow can name. None where the file that says it cannot be read."""

    world: World
    shop: Shop | None
    stages: Collection[str] | None
    mails: Collection[str]
    flows: Collection[str] | None = None
    segments: Collection[str] | None = None
    #: The rewards of each loyalty programme.
    rewards: Rewards | None = None


def check_flow(flow: Flow, around: Surroundings, *, whole: bool = True) -> Iterator[Problem]:
    """Everything in a flow's file that does not fit the other files. Where the flow is not `whole`, steps may lack."""
    yield from _triggers(flow, around)
    yield from _companies(flow, around)
    yield from _expressions(flow, around)
    yield from _steps(flow, around)
    if around.shop is not None:
        yield from check_rails(flow, around.shop)
    yield from check_tests(flow, around.world, around.shop, around.stages, around.flows)
    for step in first_unreachable(flow) if whole else ():
        yield flow.problem(step.path, f"Nobody reaches step '{step.id}': every way before it ends with a stop.")


# What starts, wakes and ends it


def _triggers(flow: Flow, around: Surroundings) -> Iterator[Problem]:
    if flow.stage is not None and around.stages is not None and flow.stage not in around.stages:
        meant = did_you_mean(flow.stage, around.stages)
        yield flow.problem(("starts", "stage"), f"There is no stage '{flow.stage}' in stages.yaml.{meant}")
    yield from check_occasion(flow, around.shop, around.segments)
    if flow.event is not None and flow.occasion is None:
        yield from _event_or_segment(flow, ("starts",), flow.event, flow.segment, around)
    for rule in flow.stops:
        yield from _event_or_segment(flow, rule.path, rule.event, rule.segment, around)
    if flow.goal is not None:
        yield from _event(flow, ("goal", "event"), flow.goal.event, around)
    for step in flow.steps.values():
        if isinstance(step, WaitFor):
            for awaited in step.awaited:
                key = "wait_for" if awaited.path == step.path else "event"
                yield from _event(flow, (*awaited.path, key), awaited.event, around)


def _companies(flow: Flow, around: Surroundings) -> Iterator[Problem]:
    """What a flow says of accounts and roles that shop.yaml does not know."""
    if around.shop is None:
        return
    accounts = around.shop.model.accounts
    stops = [(*rule.path, "by") for rule in flow.stops if rule.by_account]
    waits = [step for step in flow.steps.values() if isinstance(step, WaitFor)]
    heard = [(*awaited.path, "by") for step in waits for awaited in step.awaited if awaited.by_account]
    if accounts is None:
        for path in ([("run_per",)] if flow.per_account else []) + stops + heard:
            yield flow.problem(path, "This shop knows no accounts; declare `accounts` in shop.yaml.")
        return
    sends = [(step.to, step.path) for step in flow.steps.values() if isinstance(step, Send)]
    for roles, path in ((flow.to, ()), *sends):
        for role in sorted(roles - set(accounts.roles)):
            meant = did_you_mean(role, accounts.roles)
            yield flow.problem((*path, "to", "role"), f"There is no role '{role}' in shop.yaml under accounts.{meant}")
    if flow.to:
        for step in flow.steps.values():
            if isinstance(step, Send) and step.to and not step.to & flow.to:
                yield flow.problem(
                    (*step.path, "to"), f"Nobody gets this: the flow runs for {' and '.join(sorted(flow.to))}."
                )


def _event_or_segment(
    flow: Flow, path: Path, event: str, segment: str | None, around: Surroundings
) -> Iterator[Problem]:
    if segment is None:
        yield from _event(flow, (*path, "event"), event, around)
    elif around.segments is not None and segment not in around.segments:
        key = "segment" if event == ENTERED else "leaves"
        meant = did_you_mean(segment, around.segments)
        yield flow.problem((*path, key), f"There is no segment '{segment}' in segments.yaml.{meant}")


def _event(flow: Flow, path: Path, event: str, around: Surroundings) -> Iterator[Problem]:
    if around.world.whole and event not in around.world.events:
        meant = did_you_mean(event, around.world.events)
        hint = meant or " Events that come by the API alone are declared in shop.yaml under events."
        yield flow.problem(path, f"No source brings an event '{event}'.{hint}")


# What can be read where


def condition_names(flow: Flow, world: World, arrived: Arrived) -> Names:
    """What a condition can read at a place with these events behind it."""
    names = names_at(flow, world, arrived)
    customer = names.given.get("customer")
    if not isinstance(customer, Mapping):
        return names
    without = {name: shape for name, shape in customer.items() if name != "email"}
    return Names(
        given={**names.given, "customer": without},
        supplier=names.supplier,
        suppliers=names.suppliers,
        absent={**names.absent, "customer.email": NO_ADDRESS + "."},
        closed=names.closed,
    )


def names_at(flow: Flow, world: World, arrived: Arrived) -> Names:
    """What a text can read at a place with these events behind it."""
    supplier, carried = _trigger(flow, world)
    given: dict[str, Shape | None] = dict(carried or {})
    suppliers: dict[str, str] = {}
    sometimes: dict[str, str] = {}
    absent: dict[str, str] = {}
    for step in flow.steps.values():
        if not isinstance(step, WaitFor) or step.id in given:
            continue
        if "-" in step.id and step.id.partition("-")[0] not in given:
            absent[step.id.partition("-")[0]] = (
                f"a hyphen is a minus here; call step '{step.id}' '{step.id.replace('-', '_')}' to read its event."
            )
        if step.id not in arrived.perhaps:
            absent[step.id] = f"step '{step.id}' has received no event on any way that leads here."
            continue
        came = [event for event in step.events if (step.id, event) in arrived.by]
        given[step.id] = _carried_by(came, world)
        suppliers[step.id] = " or ".join(came)
        if step.id not in arrived.surely:
            sometimes[step.id] = f"where '{step.id}' timed out"
    given |= dict.fromkeys(flow.unread)
    given["customer"], given["shop"] = world.customer, world.shop
    if world.account is not None:
        given["account"] = world.account
        if not flow.per_account:
            sometimes["account"] = "where a customer buys for no company"
        sometimes |= {
            f"account.{name}": "where it is not known of a company" for name in world.account.keys() - _OF_ALL
        }
    return Names(
        given=given,
        supplier=supplier,
        suppliers=suppliers,
        sometimes=sometimes,
        absent=absent,
        closed=carried is not None,
    )


def _carried_by(events: Sequence[str], world: World) -> Mapping[str, Shape] | None:
    """What at least one of some events carries, and its name as `event`; None where that is not known."""
    groups = [group for event in events if (group := world.of_event(event)) is not None]
    return all_merged([{"event": "text"}, *groups]) if world.whole and len(groups) == len(events) else None


def _trigger(flow: Flow, world: World) -> tuple[str, Mapping[str, Shape] | None]:
    """What starts the flow, to begin a sentence with, and what it carries; None where that is not known."""
    if flow.stage is not None:
        events, carried = world.of_stage(flow.stage)
        by = " or ".join(events) or "any event"
        return f"Entering stage {flow.stage} (by {by})", carried if world.whole else None
    event = flow.event or ""
    return event, world.of_event(event) if world.whole else None


def _event_names(event: str, world: World) -> Names | None:
    """What the event itself carries, for `same`; None where that is not known."""
    carried = world.of_event(event)
    if not world.whole or carried is None:
        return None
    return Names(given=dict(carried), supplier=event, absent=dict.fromkeys(("customer", "shop"), NOT_BOTH))


# Expressions


def _expressions(flow: Flow, around: Surroundings) -> Iterator[Problem]:
    world = around.world
    nothing = Arrived(surely=frozenset(), perhaps=frozenset(), by=frozenset())
    waits = [step for step in flow.steps.values() if isinstance(step, WaitFor)]
    all_answers = frozenset((step.id, event) for step in waits for event in step.events)
    everything = Arrived(surely=frozenset(), perhaps=frozenset(flow.steps), by=all_answers)
    at_start = condition_names(flow, world, nothing)
    anywhere = condition_names(flow, world, everything)
    for path, expression, names in (
        (("starts", "when"), flow.when, at_start),
        (("once_per",), flow.once_per, at_start),
        (("only_if",), flow.only_if, anywhere),
    ):
        if expression is not None:
            yield from _expression(flow, path, expression, names)
    for rule in flow.stops:
        if rule.same is not None:
            yield from _same(flow, (*rule.path, "same"), rule.same, rule.event, anywhere, world)
    if flow.goal is not None and flow.goal.same is not None:
        yield from _same(flow, ("goal", "same"), flow.goal.same, flow.goal.event, at_start, world)
    reached = arrivals(flow)
    for step in flow.steps.values():
        if step.id not in reached:
            continue
        match step:
            case If():
                names = condition_names(flow, world, reached[step.id])
                for way in step.ways:
                    yield from _expression(flow, way.path, way.test, names)
            case Act():
                names = names_at(flow, world, reached[step.id])
                yield from _action(flow, step, names, around)
            case UntilDate():
                yield from _date(flow, step, condition_names(flow, world, reached[step.id]))
            case WaitFor():
                names = condition_names(flow, world, reached[step.id])
                for awaited in step.awaited:
                    if awaited.same is not None:
                        where = (*awaited.path, "same")
                        yield from _same(flow, where, awaited.same, awaited.event, names, world)
            case Notify(about=Text() as about):
                yield from _about(flow, (*step.path, "about"), about, names_at(flow, world, reached[step.id]))
            case _:
                pass


def _expression(flow: Flow, path: Path, expression: Expression, names: Names) -> Iterator[Problem]:
    _, complaints = read_expression(expression, names)
    for complaint in complaints:
        yield flow.problem_inside(path, complaint.line, complaint.col, complaint.message)


def _action(flow: Flow, step: Act, names: Names, around: Surroundings) -> Iterator[Problem]:
    attributes = around.shop.model.attributes if around.shop is not None else {}
    for path, expression in expressions_of(step):
        yield from _expression(flow, path, expression, names)
        kind = kind_of_shape(read_expression(expression, names)[0])
        if message := wrong_kind(step, path, kind, attributes):
            yield flow.problem(path, message)


def _date(flow: Flow, step: UntilDate, names: Names) -> Iterator[Problem]:
    """A date stands as text in payloads and attributes, so that only what is surely none is told."""
    path = (*step.path, "until")
    yield from _expression(flow, path, step.date, names)
    kind = kind_of_shape(read_expression(step.date, names)[0])
    if kind in ("number", "yes-no", "list", "group"):
        yield flow.problem(path, f"'{step.date.text}' is a {kind}, not a date to wait until.")


def _same(flow: Flow, path: Path, same: Expression, event: str, run: Names, world: World) -> Iterator[Problem]:
    """`same` is read twice: from what the run knows, and from what the event carries."""
    ours, complaints = read_expression(same, run)
    theirs: Shape = "unknown"
    if (names := _event_names(event, world)) is not None:
        theirs, others = read_expression(same, names)
        said = {(complaint.line, complaint.col) for complaint in complaints}
        complaints += [complaint for complaint in others if (complaint.line, complaint.col) not in said]
    for complaint in complaints:
        yield flow.problem_inside(path, complaint.line, complaint.col, complaint.message)
    kinds = {kind_of_shape(ours), kind_of_shape(theirs)} - {"unknown"}
    if len(kinds) > 1 and not complaints:
        one, other = kind_of_shape(ours), kind_of_shape(theirs)
        yield flow.problem(path, f"'{same.text}' is {one} in the trigger and {other} in {event}: never the same.")


def _about(flow: Flow, path: Path, about: Text, names: Names) -> Iterator[Problem]:
    for complaint in read_blocks(about.text, Reader(about.text, FUNCTIONS).template(), names):
        yield flow.problem_inside(path, complaint.line, complaint.col, complaint.message)
    for function in sorted({function for function, _ in about.calls}):
        yield flow.problem(path, f"'{function}' is for mails to customers; a note to a team has none of it.")


# Steps


def _steps(flow: Flow, around: Surroundings) -> Iterator[Problem]:
    shop = around.shop
    if flow.topic is not None and shop is not None and flow.topic not in shop.model.topics:
        meant = did_you_mean(flow.topic, shop.model.topics)
        yield flow.problem(("topic",), f"There is no topic '{flow.topic}' in shop.yaml.{meant}")
    _, carried = _trigger(flow, around.world)
    for step in flow.steps.values():
        match step:
            case Send():
                yield from _send(flow, step, around)
            case Act():
                yield from check_action(flow, step, shop, around.stages, around.flows, around.rewards)
            case Notify():
                if shop is not None and step.team not in shop.model.teams:
                    meant = did_you_mean(step.team, shop.model.teams)
                    yield flow.problem((*step.path, "notify"), f"There is no team '{step.team}' in shop.yaml.{meant}")
            case WaitFor() if step.id in (carried or {}) or step.id in ("customer", "shop"):
                yield flow.problem(
                    (*step.path, "id"),
                    f"'{step.id}' already names something the flow knows; give this step another id.",
                )
            case WaitFor() if len(step.awaited) > 1:
                for awaited in step.awaited:
                    if "event" in (around.world.of_event(awaited.event) or {}):
                        message = (
                            f"{awaited.event} carries an 'event' of its own, so that nobody could tell which came."
                        )
                        yield flow.problem((*awaited.path, "event"), message)
            case _:
                pass
    if "email/_notify" not in around.mails and (
        notify := next((step for step in walk(flow) if isinstance(step, Notify)), None)
    ):
        yield flow.problem(
            (*notify.path, "notify"), "There is no templates/email/_notify.mjml, the mail that teams get."
        )


def _send(flow: Flow, step: Send, around: Surroundings) -> Iterator[Problem]:
    path = (*step.path, "survey" if step.asks else "send")
    if step.template.rpartition("/")[2].startswith("_"):
        message = f"'{step.template}' is no mail to customers; teams are written to with `notify`."
        yield flow.problem(path, message)
    elif (plain := parted(step.template)[0]) != step.template and plain in around.mails:
        message = f"Write {plain}: each customer gets the form in their own language."
        yield flow.problem((*step.path, "send"), message)
    elif step.template not in around.mails:
        known = [name for name in around.mails if "/_" not in name]
        meant = did_you_mean(step.template, known) or did_you_mean(f"email/{step.template}", known)
        yield flow.problem(path, f"There is no template templates/{step.template}.mjml.{meant}")
