"""What there is to read: which names each event, the customer and the shop supply, and of which kind each is.

A shape is a kind of value, a group of named shapes, or a list of one shape. Names are looked up in shapes the way
evaluation looks them up in data, so what is not found here is missing for every customer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

from afterglow.language.catalog import OWN_EVENTS
from afterglow.language.shop import Shop
from afterglow.language.source import ANY_EVENT, Source, TakenOver, supplies
from afterglow.language.value import Kind
from afterglow.problems import did_you_mean


@dataclass(frozen=True, slots=True)
class ListShape:
    """A list whose entries have one shape."""

    entry: "Shape"


Shape = Kind | ListShape | Mapping[str, "Shape"]

SURVEY: Final = "survey.answered"

#: What is known about every customer. The address is for mails alone: a condition on it would be personal data
#: in the decisions that are kept.
CUSTOMER: Final[Mapping[str, Shape]] = {
    "id": "text",
    "email": "text",
    "first_name": "text",
    "last_name": "text",
    "locale": "text",
    "timezone": "text",
    "country": "text",
    "region": "text",
    "stage": "text",
    "orders": "number",
    "spent": "number",
    "since": "date",
    "last_order_at": "date",
    "segments": ListShape("text"),
    "tags": ListShape("text"),
}
#: So many names are listed where none is close to the one that was written.
_LISTED_MAX: Final = 8
#: Kinds that shop.yaml may give the fields of an event.
KINDS: Final[tuple[Kind, ...]] = ("text", "number", "yes-no", "date", "list")


def merged(one: Shape, other: Shape) -> Shape:
    """The shape of a value that is the one or the other."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _merged_groups(one, other)
    if isinstance(one, ListShape) and isinstance(other, ListShape):
        return ListShape(merged(one.entry, other.entry))
    return one if one == other else "unknown"


def all_merged(groups: Iterable[Mapping[str, Shape]]) -> Mapping[str, Shape]:
    """Every name that at least one group has."""
    return reduce(_merged_groups, groups, {})


def _merged_groups(one: Mapping[str, Shape], other: Mapping[str, Shape]) -> Mapping[str, Shape]:
    shared = {name: merged(one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **shared}


def grouped(paths: Mapping[str, Kind]) -> Mapping[str, Shape]:
    """The shape that dotted paths describe, such as `order.items[].title`; moments are stored as text."""
    fields: dict[str, dict[str, Kind]] = {}
    kinds: dict[str, Kind] = {}
    for path, kind in paths.items():
        name, _, rest = path.partition(".")
        if rest:
            fields.setdefault(name, {})[rest] = kind
        else:
            kinds[name] = "text" if kind == "date" else kind
    group: dict[str, Shape] = {}
    for name in dict.fromkeys([path.partition(".")[0] for path in paths]):
        plain = name.removesuffix("[]")
        if name.endswith("[]"):
            group[plain] = ListShape(grouped(fields[name])) if name in fields else "list"
        elif name in fields:
            group[plain] = grouped(fields[name])
        else:
            group.setdefault(plain, kinds[name])
    return group


def found(shape: Shape, keys: Sequence[str | int]) -> Shape | None:
    """The shape at keys below a shape; None where nothing can ever stand."""
    for key in keys:
        if shape == "unknown" or (shape == "list" and isinstance(key, int)):
            return "unknown"
        if isinstance(shape, Mapping) and isinstance(key, str) and key in shape:
            shape = shape[key]
        elif isinstance(shape, ListShape) and isinstance(key, int):
            shape = shape.entry
        else:
            return None
    return shape


def leaves(group: Mapping[str, Shape], before: str = "") -> Iterator[str]:
    """The dotted names of every value in a group, for suggestions."""
    for name, shape in group.items():
        if isinstance(shape, Mapping):
            yield from leaves(shape, f"{before}{name}.")
        else:
            yield before + name


def kind_of_shape(shape: Shape | None) -> str:
    """One word for a shape: its kind, `list` or `group`."""
    match shape:
        case None:
            return "unknown"
        case ListShape():
            return "list"
        case str():
            return shape
        case _:
            return "group"


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a shop's events, customers and brand supply.

    `whole` is False where a file that could supply more cannot be read; then nobody is told that a name or an
    event does not exist.
    """

    #: What each event carries. None: it is taken over as it came and nothing says what is in it.
    events: Mapping[str, Mapping[str, Shape] | None]
    #: The events that bring customers into a stage by name.
    stage_events: Mapping[str, tuple[str, ...]]
    customer: Mapping[str, Shape] | None
    shop: Mapping[str, Shape] | None
    whole: bool
    #: What is known of companies; None where customers buy for none.
    account: Mapping[str, Shape] | None = None

    def of_event(self, event: str) -> Mapping[str, Shape] | None:
        """What an event carries; None where that is not known."""
        return self.events.get(event)

    def of_stage(self, stage: str) -> tuple[tuple[str, ...], Mapping[str, Shape] | None]:
        """The events that bring customers into a stage, and what at least one of them carries.

        Where no source names the stage, customers enter it by the API, and any event may do it.
        """
        events = self.stage_events.get(stage) or tuple(self.events)
        carried = [self.events[event] for event in events]
        groups = [group for group in carried if group is not None]
        return self.stage_events.get(stage, ()), all_merged(groups) if len(groups) == len(carried) else None


def world(shop: Shop | None, sources: Iterable[Source], *, whole: bool) -> World:
    """What the files of a shop supply together."""
    events: dict[str, Mapping[str, Shape] | None] = {event: _declared(fields) for event, fields in OWN_EVENTS.items()}
    stage_events: dict[str, list[str]] = {}
    of_any: Mapping[str, Shape] = {}
    taken_over: set[str] = set()
    for source in sources:
        for event, paths in supplies(source).items():
            if event == ANY_EVENT:
                of_any = all_merged([of_any, grouped(paths)])
            else:
                events[event] = all_merged([events.get(event) or {}, grouped(paths)])
        for rule in source.events:
            if isinstance(rule.event, str):
                if isinstance(rule.payload, TakenOver):
                    taken_over.add(rule.event)
                if isinstance(rule.stage, str) and rule.event not in stage_events.setdefault(rule.stage, []):
                    stage_events[rule.stage].append(rule.event)
    if shop is not None:
        for event, declared in shop.model.events.items():
            events[event] = all_merged([events.get(event) or {}, _declared(declared)])
    for event, group in events.items():
        events[event] = None if not group and event in taken_over else all_merged([group or {}, of_any])
    return World(
        events=events,
        stage_events={stage: tuple(names) for stage, names in stage_events.items()},
        customer=_of_customer(shop),
        shop=_of_shop(shop),
        account=_of_account(shop),
        whole=whole and shop is not None,
    )


def _declared(fields: Mapping[str, str]) -> Mapping[str, Shape]:
    return grouped(
        {path: next((known for known in KINDS if known == kind), "unknown") for path, kind in fields.items()}
    )


def _of_customer(shop: Shop | None) -> Mapping[str, Shape] | None:
    return None if shop is None else {**grouped(dict(shop.attributes)), **CUSTOMER}


def _of_account(shop: Shop | None) -> Mapping[str, Shape] | None:
    if shop is None or shop.model.accounts is None:
        return None
    return {**grouped(dict(shop.model.accounts.attributes)), "id": "text", "name": "text"}


def _of_shop(shop: Shop | None) -> Mapping[str, Shape] | None:
    if shop is None:
        return None
    return {
        name: dict.fromkeys(value, "text") if isinstance(value, Mapping) else "text"
        for name, value in shop.facts.items()
    }


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that can be read at one place, and how to speak of those that cannot.

    `given` holds shapes by first name; None under a name: anything may stand there. `sometimes` says, for dotted
    names that are missing at times, where they are missing. `absent` says, for names known elsewhere, why they
    cannot be read here. `supplier` is what the names come from, to begin a sentence with;
    `suppliers` the same for first names that come from elsewhere. Where `closed` is False, first names that are
    not known may exist after all.
    """

    given: Mapping[str, Shape | None]
    supplier: str
    suppliers: Mapping[str, str] = field(default_factory=dict)
    sometimes: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    closed: bool = True

    def of(self, roots: Collection[str]) -> "Names":
        """What a text is held against that reads no other first names: equal where the same in it is wrong."""

        def only(named: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in named.items() if name.partition(".")[0] in roots}

        return Names(
            given=only(self.given),
            supplier="",
            sometimes=only(self.sometimes),
            absent=only(self.absent),
            closed=self.closed,
        )

    def reason_missing(self, dotted: str) -> str:
        """Why a name that `given` does not hold cannot be read, with what was probably meant."""
        root = dotted.partition(".")[0]
        if why := self.absent.get(dotted) or self.absent.get(root):
            return f"'{dotted}' cannot be read here: {why}"
        known = [name for first, shape in self.given.items() for name in leaves({first: shape or "unknown"})]
        meant = did_you_mean(dotted, known) or _listed([name for name in known if name.startswith(root + ".")])
        if root == "customer":
            return f"'{dotted}' is nothing we know of customers; declare it in shop.yaml under attributes.{meant}"
        if root == "shop":
            return f"'{dotted}' is not in shop.yaml.{meant}"
        return f"{self.suppliers.get(root, self.supplier)} does not supply '{dotted}'.{meant}"


def _listed(names: list[str]) -> str:
    return f" There is {', '.join(names[:_LISTED_MAX])}." if names else ""
