"""What is wrong in the files of a shop: each problem with its place, all of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from afterglow.errors import AfterglowError


@dataclass(frozen=True, order=True)
class Problem:
    """One sentence about one place in a file; problems sort by file, then by place.

    `line` and `col` count from 1, as editors do.
    """

    file: str
    line: int
    col: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}: {self.message}"


def github_annotation(problem: Problem, title: str, folder: str = "") -> str:
    """A problem as a command of GitHub Actions, which shows it at its line in a pull request.

    Args:
      title: what stands above the message.
      folder: of the shop below the repository's own; empty where they are the same.

    What ends a property or a command is escaped as GitHub's toolkit does it (`@actions/core`, command.ts).
    """
    file = f"{folder}/{problem.file}" if folder else problem.file
    place = f"file={_property(file)},line={problem.line},col={problem.col},title={_property(title)}"
    return f"::error {place}::{_data(problem.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


class Problems(AfterglowError):
    """The files have problems; correct them and run the check again."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'order.total'?` when one known name is close, otherwise nothing.

    The leading space lets the answer be appended to any sentence. Case is not held against the writer.
    """
    by_lower_case = {candidate.lower(): candidate for candidate in sorted(known)}
    cutoff = 0.7 if len(name) > 3 else 0.6  # two letters that changed places are much of a short word
    close = get_close_matches(name.lower(), by_lower_case, n=1, cutoff=cutoff)
    return f" Did you mean '{by_lower_case[close[0]]}'?" if close else ""
