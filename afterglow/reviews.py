"""What customers said about products, for others to read: only with permission, and no name but as permitted."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from afterglow.surveys import STARS as STARS_SCALE

#: The event by which a review comes, the one that says what of it may be shown, and an answer to one of our surveys.
POSTED: Final = "review.posted"
PERMITTED: Final = "review.permitted"
ANSWERED: Final = "survey.answered"
#: What is reviewed where it is no product: the shop itself, by answers on stars.
SHOP: Final = ""
#: The words by which our page asks whether a customer may be quoted, by version. Never change one: add the next, since
#: each permission is kept with the version of its words.
WORDINGS: Final[Mapping[str, str]] = {
    "1": "{shop} may show these words to others, with my first name. I can take this back by the same link."
}
WORDING: Final = max(WORDINGS, key=int)
STARS: Final = range(1, 6)
#: A longer text would have to be cut, and a cut text says something else.
LONGEST_QUOTE: Final = 400
#: Fewer stars are no recommendation.
FEWEST_STARS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """A review as an event tells it. `may_be_quoted` is None where nothing is said of it."""

    number: str | None
    product: str | None
    stars: int | None
    text: str | None
    may_be_quoted: bool | None
    may_be_named: bool
    #: The version of the words on our page by which it was permitted.
    wording: str | None = None


def told(event: str, payload: Mapping[str, Any]) -> Review:
    """The review that an event carries, under `review` and `product.id`; an answer on stars is one of the shop."""
    if event == ANSWERED:
        return _answered(payload)
    said, about = payload.get("review"), payload.get("product")
    review: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    product = about.get("id") if isinstance(about, Mapping) else None
    stars, text, quoted = review.get("stars"), review.get("text"), review.get("may_be_quoted")
    whole = int(stars) if isinstance(stars, int | float) and not isinstance(stars, bool) else None
    return Review(
        number=str(review["id"]) if review.get("id") is not None else None,
        product=str(product) if product is not None else None,
        stars=whole if whole in STARS else None,
        text=text.strip() if isinstance(text, str) and text.strip() else None,
        may_be_quoted=quoted if isinstance(quoted, bool) else None,
        may_be_named=review.get("may_be_named") is True,
    )


def _answered(payload: Mapping[str, Any]) -> Review:
    """The review of the shop that an answer to a survey is; it has no stars where it was not asked for them."""
    said = payload.get("review")
    review: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    stars = payload.get("score") if payload.get("scale") == STARS_SCALE.name else None
    posted = told(POSTED, {"review": {**review, "stars": stars, "text": payload.get("comment")}})
    wording = review.get("wording")
    return replace(
        posted,
        product=SHOP,
        may_be_named=posted.may_be_quoted is True,
        wording=wording if isinstance(wording, str) else None,
    )


def signed(first_name: str | None, last_name: str | None) -> str | None:
    """A reviewer as others may know them: the first name and an initial; None where we know no first name."""
    if not first_name:
        return None
    return f"{first_name} {last_name[0]}." if last_name else first_name


def quote(text: str, name: str | None) -> str:
    """A review as it stands in a mail."""
    return f"\u201c{text}\u201d" + (f" ({name})" if name else "")
