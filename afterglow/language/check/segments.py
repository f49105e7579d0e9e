"""Hold a segment against what the shop's events, customers and brand supply."""

from collections.abc import Collection, Iterator, Mapping

from afterglow.expressions.tree import Node, Past
from afterglow.language.check.reading import read_tree
from afterglow.language.check.supply import Names, Shape, World
from afterglow.language.picture import FOLDER
from afterglow.language.segment import PICTURE, Segment
from afterglow.problems import Problem, did_you_mean
from afterglow.segments import MEASURES

_RFM: Mapping[str, Shape] = dict.fromkeys(MEASURES, "number")
_ADDRESS = {"customer.email": "who is in a segment is kept, so conditions read no addresses."}
_ONE_EVENT = dict.fromkeys(("customer", "account", "shop", "rfm"), "this reads what one event carries.")
_NO_ACCOUNTS = {"account": "this shop knows no accounts; declare `accounts` in shop.yaml."}
_ITSELF = {"customer.segments": "a segment cannot hang on segments; say here what is true of the customer."}


def check_segment(segment: Segment, world: World, files: Collection[str]) -> Iterator[Problem]:
    """Everything in a segment that does not fit the other files, which `files` are the names of."""
    picture = segment.persona.picture if segment.persona else None
    if picture is not None and PICTURE.fullmatch(picture) and FOLDER + picture not in files:
        there = [file.removeprefix(FOLDER) for file in files if file.startswith(FOLDER)]
        path = (*segment.path, "persona", "picture")
        meant = did_you_mean(picture, there)
        yield segment.document.problem(path, f"There is no picture {FOLDER}{picture}.{meant}")
    customer = world.customer and {
        name: shape for name, shape in world.customer.items() if f"customer.{name}" not in _ADDRESS | _ITSELF
    }
    given: dict[str, Shape | None] = {"customer": customer, "shop": world.shop, "rfm": _RFM}
    absent = _ADDRESS | _ITSELF
    if world.account is None and world.shop is not None:
        absent |= _NO_ACCOUNTS
    else:
        given["account"] = world.account
    suppliers = {"account": "shop.yaml"}
    names = Names(given=given, supplier="A segment", suppliers=suppliers, absent=absent)
    yield from _read(segment, segment.tree, names)
    for past in segment.past:
        yield from _past(segment, past, world)


def _past(segment: Segment, past: Past, world: World) -> Iterator[Problem]:
    if not world.whole:
        return
    if past.event not in world.events:
        meant = did_you_mean(past.event, world.events)
        hint = meant or " Events that come by the API alone are declared in shop.yaml under events."
        place = segment.when.text.find(past.event)
        yield _inside(segment, *_place(segment.when.text, place), f"No source brings an event '{past.event}'.{hint}")
    elif (carried := world.of_event(past.event)) is not None:
        names = Names(given=dict(carried), supplier=past.event, absent=_ONE_EVENT)
        for part in (past.amount, past.where):
            if part is not None:
                yield from _read(segment, part, names)


def _read(segment: Segment, tree: Node, names: Names) -> Iterator[Problem]:
    for complaint in read_tree(segment.when.text, tree, names)[1]:
        yield _inside(segment, complaint.line, complaint.col, complaint.message)


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _inside(segment: Segment, line: int, col: int, message: str) -> Problem:
    document = segment.document
    return Problem(document.file, *document.place_inside((*segment.path, "when"), line, col), message)
