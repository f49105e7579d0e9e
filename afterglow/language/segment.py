"""`flows/segments.yaml`: groups of customers by what is true of them. A persona is a segment with a face."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from afterglow import strict_yaml
from afterglow.expressions import Expression, parse
from afterglow.expressions.evaluate import Evaluate, compiled
from afterglow.expressions.parse import PAST, Reader
from afterglow.expressions.tree import Call, Compare, Node, Past
from afterglow.expressions.walk import nodes_of
from afterglow.language.compiling import Compiler, Path
from afterglow.language.shop import exact
from afterglow.problems import Problem, Problems

#: What we tell of segments ourselves.
ENTERED, LEFT = "segment.entered", "segment.left"
#: Moments that move on with the clock.
MOVING: Final = frozenset({"ago", "ahead"})
#: What the condition of a segment may call.
FUNCTIONS: Final = PAST | MOVING
#: Where pictures of personas may stand: a file of the shop's own folder.
PICTURE = re.compile(r"(?:[a-z0-9_-]+/)*[a-z0-9_-]+\.(?:png|jpg|jpeg|webp)", re.ASCII)


def crossing(entered: str | None, left: str | None) -> tuple[str, str] | None:
    """The event that tells of a segment that is entered or left, and the segment; None where neither is."""
    if entered is not None:
        return ENTERED, entered
    return (LEFT, left) if left is not None else None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonaModel(_Model):
    """The face of a segment: somebody typical of it, as pages show them."""

    name: str = Field(min_length=1, max_length=60, description="What the persona is called, such as `Rita Regular`.")
    description: str | None = Field(
        default=None, max_length=600, description="Who they are, what they want and what keeps them from it."
    )
    picture: str | None = Field(
        default=None,
        description="A picture below the shop's folder `pictures/`, such as `rita.webp` (png, jpg or webp). "
        "Without one, pages show initials.",
    )


class SegmentModel(_Model):
    """Customers of whom one condition is true."""

    segment: str = Field(pattern=r"^[a-z][a-z0-9-]{0,59}$", description="Its name, such as `at-risk`.")
    about: str = Field(description="Who is in it, in a sentence.")
    when: str = Field(
        description="The condition, over `customer`, `account`, `shop`, `rfm` and what happened, such as "
        '`count("order.paid", within="90 days") >= 3`.'
    )
    persona: PersonaModel | None = Field(default=None, description="Its face on pages.")


class SegmentsModel(_Model):
    """The segments of a shop."""

    model_config = ConfigDict(title="file of segments")

    segments: Annotated[list[SegmentModel], Field(max_length=200)] = Field(description="The segments, in any order.")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A moment that is compared with one that moves on with the clock: what comes of it changes `offset` later."""

    moment: Evaluate = field(repr=False)
    offset: timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """Events of a name that count for so long only: each that leaves changes what comes of it."""

    event: str
    where: Evaluate | None = field(repr=False)
    within: timedelta


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A compiled segment."""

    name: str
    about: str
    when: Expression
    persona: PersonaModel | None
    tree: Node = field(repr=False, compare=False)
    #: What it counts, and where it looks at the clock.
    past: tuple[Past, ...] = field(repr=False)
    windows: tuple[Window, ...] = field(repr=False, compare=False)
    crossings: tuple[Crossing, ...] = field(repr=False, compare=False)
    document: strict_yaml.Document = field(repr=False, compare=False)
    path: Path

    @property
    def digest(self) -> bytes:
        """What decides who is in it: another one means that everybody is judged again."""
        return hashlib.sha256(self.when.text.encode()).digest()

    @property
    def events(self) -> frozenset[str]:
        """The events it reads."""
        return frozenset(one.event for one in self.past)

    @property
    def reads_fifths(self) -> bool:
        """Whether it compares the customer with all others."""
        return any(name.partition(".")[0] == "rfm" for name in self.when.names)

    @property
    def reads_account(self) -> bool:
        """Whether it reads the company that the customer buys for."""
        return any(name.partition(".")[0] == "account" for name in self.when.names)

    def problem(self, key: str, message: str) -> Problem:
        """A problem at a key of this segment."""
        return self.document.problem((*self.path, key), message)


@lru_cache(maxsize=16)
def read_segments(text: str, file: str) -> Mapping[str, Segment]:
    """Compile `flows/segments.yaml`: the segments by name, in the order of the file.

    Raises:
      Problems: everything that is wrong with the file by itself, each with its place.
    """
    document = strict_yaml.load(text, file)
    compiler = _Compiler(document)
    found = compiler.segments(strict_yaml.validated(document, SegmentsModel))
    if compiler.problems:
        raise Problems(tuple(compiler.problems))
    return {segment.name: segment for segment in found}


def sketch_segments(
    document: strict_yaml.Document, model: SegmentsModel
) -> tuple[Sequence[Segment], tuple[Problem, ...]]:
    """The segments that compile, and what is wrong with others. Only for finding further problems."""
    compiler = _Compiler(document)
    return compiler.segments(model), tuple(compiler.problems)


class _Compiler(Compiler):
    def segments(self, model: SegmentsModel) -> list[Segment]:
        found: list[Segment] = []
        names: set[str] = set()
        for n, one in enumerate(model.segments):
            path: Path = ("segments", n)
            if one.segment in names:
                self.say((*path, "segment"), f"The segment '{one.segment}' stands here twice.")
            picture = one.persona.picture if one.persona else None
            if picture is not None and not PICTURE.fullmatch(picture):
                self.say(
                    (*path, "persona", "picture"),
                    f"'{picture}' is no picture of the shop's folder pictures/: write it as people/rita.webp, in small "
                    "letters, png, jpg or webp.",
                )
            names.add(one.segment)
            segment = self.segment(one, path)
            if segment is not None:
                found.append(segment)
        return found

    def segment(self, model: SegmentModel, path: Path) -> Segment | None:
        where = (*path, "when")
        expression = self._parsed(lambda text: parse(text, functions=FUNCTIONS), model.when, where)
        if expression is None:
            return None
        reader = Reader(expression.text, FUNCTIONS)
        tree = reader.expression()
        before = len(self.problems)
        crossings = self.crossings(tree, where)
        windows = []
        for past in reader.past:
            if past.within is not None:
                within = self.collected(where, lambda text=past.within: exact(text))  # type: ignore[misc]
                if within is not None:
                    windows.append(Window(past.event, compiled(past.where) if past.where else None, within))
            if past.event in (ENTERED, LEFT):
                self.say(where, f"A segment cannot hang on '{past.event}', or it would set itself off.")
        if len(self.problems) > before:
            return None
        return Segment(
            name=model.segment,
            about=model.about,
            when=expression,
            persona=model.persona,
            tree=tree,
            past=tuple(reader.past),
            windows=tuple(windows),
            crossings=crossings,
            document=self.document,
            path=path,
        )

    def crossings(self, tree: Node, where: Path) -> tuple[Crossing, ...]:
        """The comparisons that time alone may change. `ago` elsewhere is a problem: nobody could tell when to look."""
        found: list[Crossing] = []
        compared: list[Node] = []
        for node in nodes_of(tree):
            if not isinstance(node, Compare):
                continue
            sides = (node.first, *(part for _, part in node.rest))
            for (left, right), (operator, _) in zip(pairwise(sides), node.rest, strict=True):
                for side, other in ((left, right), (right, left)):
                    if not (isinstance(side, Call) and side.name in MOVING and operator in ("<", "<=", ">", ">=")):
                        continue
                    compared.append(side)
                    offset = self.collected(where, lambda call=side: moved(call))  # type: ignore[misc]
                    if offset is not None:
                        found.append(Crossing(compiled(other), -offset))
        calls = [node for node in nodes_of(tree) if isinstance(node, Call)]
        if any(not any(call is one for one in compared) for call in calls):
            self.say(where, 'A moving moment is compared directly: `customer.last_order_at < ago("180 days")`.')
        return tuple(found)


def moved(call: Call) -> timedelta:
    """How far from now a moving moment is; ValueError where its length is none. A month is 30 days, a year 360."""
    match call.arguments:
        case (str() as text,):
            length = exact(text)
        case _:
            raise ValueError(f"'{call.name}' takes a length of time in quotes: {call.name}(\"30 days\").")
    return -length if call.name == "ago" else length


def moments(now: datetime) -> Mapping[str, Any]:
    """The functions that give moving moments."""

    def moment(name: str, text: str) -> datetime:
        return now + moved(Call(name, (text,)))

    return {name: (lambda text, name=name: moment(name, text)) for name in MOVING}
