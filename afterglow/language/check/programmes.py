"""Hold one loyalty programme against the rest of the shop's files."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from afterglow.expressions import Expression
from afterglow.language.check.flows import NO_ADDRESS
from afterglow.language.check.reading import Complaint, read_expression
from afterglow.language.check.supply import ListShape, Names, Shape, World, found, kind_of_shape
from afterglow.language.compiling import Path
from afterglow.language.programme import EarnRule, Programme
from afterglow.problems import Problem, did_you_mean


def check_loyalty(programme: Programme, world: World) -> Iterator[Problem]:
    """Everything in a programme's file that does not fit the other files."""
    if programme.hold is not None and programme.hold.until is not None:
        yield from _event(programme, ("hold", "until"), programme.hold.until, world)
    if (refunds := programme.refunds) is not None:
        yield from _event(programme, ("refunds", "on"), refunds.event, world)
        # The sum of all refunds is made anew at each of them, from what the events said and nothing that may change.
        names = names_of(world, refunds.event)
        without = {name: shape for name, shape in names.given.items() if name != "customer"}
        alone = replace(names, given=without, absent={"customer": "an amount is what the event itself says."})
        yield from _number(programme, ("refunds", "amount"), refunds.amount, alone)
    for n, rule in enumerate(programme.earn):
        yield from _rule(programme, ("earn", n), rule, world)


def _rule(programme: Programme, path: Path, rule: EarnRule, world: World) -> Iterator[Problem]:
    yield from _event(programme, (*path, "on"), rule.event, world)
    if rule.event == "points.earned":
        yield programme.problem((*path, "on"), "Points that earn points would earn for ever; name what earned them.")
    if world.whole and rule.event not in world.events:
        return
    names = names_of(world, rule.event)
    of_item = names
    if rule.when is not None:
        yield from _expression(programme, (*path, "when"), rule.when, names)
    if rule.items is not None:
        listed = _items(world, rule.event)
        if listed is None:
            message = f"{rule.event} supplies no list 'order.items', so this rule never earns anything."
            yield programme.problem((*path, "items"), message)
            return
        of_item = _with_item(names, listed, rule.event)
        yield from _expression(programme, (*path, "items"), rule.items, of_item)
    if rule.amount is not None:
        yield from _number(programme, (*path, "amount"), rule.amount, of_item)
    tiers = programme.tiers.names if programme.tiers else ()
    for n, multiplier in enumerate(rule.multipliers):
        at = (*path, "times", n)
        if multiplier.tier is not None and multiplier.tier not in tiers:
            meant = did_you_mean(multiplier.tier, tiers)
            yield programme.problem((*at, "tier"), f"There is no tier '{multiplier.tier}' in this programme.{meant}")
        if multiplier.when is not None:
            yield from _expression(programme, (*at, "when"), multiplier.when, names)


def names_of(world: World, event: str) -> Names:
    """What a condition on an event can read: what it carries, the customer but for their address, the shop."""
    carried = world.of_event(event) if world.whole else None
    customer = world.customer
    without = None if customer is None else {name: shape for name, shape in customer.items() if name != "email"}
    return Names(
        given={**(carried or {}), "customer": without, "shop": world.shop},
        supplier=event,
        absent={"customer.email": NO_ADDRESS + "."},
        closed=carried is not None,
    )


def _items(world: World, event: str) -> Shape | None:
    """The shape of the entries of `order.items`; None where the event is known to have no such list."""
    carried = world.of_event(event) if world.whole else None
    if carried is None:
        return "unknown"
    listed = found(carried, ("order", "items"))
    if isinstance(listed, ListShape):
        return listed.entry
    return "unknown" if listed in ("list", "unknown") else None


def _with_item(names: Names, item: Shape, event: str) -> Names:
    return Names(
        given={**names.given, "item": item},
        supplier=names.supplier,
        suppliers={"item": f"An entry of order.items of {event}"},
        absent=names.absent,
        closed=names.closed,
    )


def _event(programme: Programme, path: Path, event: str, world: World) -> Iterator[Problem]:
    if world.whole and event not in world.events:
        meant = did_you_mean(event, world.events)
        hint = meant or " Events that come by the API alone are declared in shop.yaml under events."
        yield programme.problem(path, f"No source brings an event '{event}'.{hint}")


def _number(programme: Programme, path: Path, expression: Expression, names: Names) -> Iterator[Problem]:
    shape, complaints = read_expression(expression, names)
    yield from _placed(programme, path, complaints)
    if not complaints and (kind := kind_of_shape(shape)) not in ("number", "unknown"):
        yield programme.problem(path, f"'{expression.text}' is {_SAID.get(kind, kind)}, and an amount is a number.")


_SAID: Mapping[str, str] = {"list": "a list", "group": "a group of values", "date": "a moment", "yes-no": "yes or no"}


def _expression(programme: Programme, path: Path, expression: Expression, names: Names) -> Iterator[Problem]:
    yield from _placed(programme, path, read_expression(expression, names)[1])


def _placed(programme: Programme, path: Path, complaints: list[Complaint]) -> Iterator[Problem]:
    for one in complaints:
        line, col = programme.document.place_inside(path, one.line, one.col)
        yield Problem(programme.document.file, line, col, one.message)
