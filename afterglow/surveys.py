"""The scales on which customers answer: what each number means, in words that a page says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A scale: what is asked, its scores from the worst to the best, and what the two ends mean.

    `unhappy` is the highest score of somebody who should hear from a person.
    """

    name: str
    question: str
    scores: range
    low: str
    high: str
    unhappy: int


#: What is meant where a mail names no scale.
STARS: Final = Scale(
    name="stars", question="How was it?", scores=range(1, 6), low="not good at all", high="very good", unhappy=2
)
SCALES: Final[Mapping[str, Scale]] = {
    "stars": STARS,
    "csat": Scale(
        name="csat",
        question="How satisfied are you?",
        scores=range(1, 6),
        low="not at all",
        high="very satisfied",
        unhappy=2,
    ),
    "nps": Scale(
        name="nps",
        question="Would you recommend us to a friend?",
        scores=range(11),
        low="not at all likely",
        high="very likely",
        unhappy=6,
    ),
}
