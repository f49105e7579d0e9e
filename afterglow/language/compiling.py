"""What the compilers of files share: problems are collected, so that a file tells all of its slips at once."""

from collections.abc import Callable
from typing import TypeVar

from afterglow import strict_yaml
from afterglow.durations import Duration, parse_duration
from afterglow.expressions import Expression, ExpressionError, Text, parse, parse_text
from afterglow.problems import Problem, Problems

Path = tuple[str | int, ...]
_Made = TypeVar("_Made")


def whole(sketched: tuple[_Made, tuple[Problem, ...]]) -> _Made:
    """What was made of a file, where nothing is wrong with it.

    Raises:
      Problems: everything that is.
    """
    made, problems = sketched
    if problems:
        raise Problems(problems)
    return made


class Compiler:
    """Compiles one file, collecting problems instead of stopping at the first."""

    def __init__(self, document: strict_yaml.Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def say(self, path: Path, message: str) -> None:
        """Note what is wrong at a place."""
        where, inside = self.located(path)
        self.problems.append(where.problem(inside, message))

    def located(self, path: Path) -> tuple[strict_yaml.Document, Path]:
        """The file in which a path leads somewhere, and where in it."""
        return self.document, path

    def collected(self, path: Path, make: Callable[[], _Made]) -> _Made | None:
        """What is made; None where making it raises a ValueError, whose sentence is noted."""
        try:
            return make()
        except ValueError as error:
            self.say(path, str(error))
            return None

    def duration(self, text: str, path: Path) -> Duration | None:
        """A length of time such as `30 days`."""
        return self.collected(path, lambda: parse_duration(text))

    def expression(self, text: str | None, path: Path) -> Expression | None:
        """An expression; None where there is none, or none that can be read."""
        return self._parsed(parse, text, path)

    def text(self, text: str | None, path: Path) -> Text | None:
        """A text with {{ }} in it; None where there is none, or none that can be read."""
        return self._parsed(parse_text, text, path)

    def _parsed(self, parser: Callable[[str], _Made], text: str | None, path: Path) -> _Made | None:
        if text is None:
            return None
        try:
            return parser(text)
        except ExpressionError as error:
            where, inside = self.located(path)
            line, col = where.place_inside(inside, error.line, error.col)
            self.problems.append(Problem(where.file, line, col, error.message))
            return None
