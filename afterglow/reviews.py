"""What customers said about products, for others to read: only with permission, and no name but as permitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: The event by which a review comes, and the one that says what of it may be shown.
POSTED: Final = "review.posted"
PERMITTED: Final = "review.permitted"
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


def told(payload: Mapping[str, Any]) -> Review:
    """The review that an event carries, under `review` and `product.id`."""
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


def signed(first_name: str | None, last_name: str | None) -> str | None:
    """A reviewer as others may know them: the first name and an initial; None where we know no first name."""
    if not first_name:
        return None
    return f"{first_name} {last_name[0]}." if last_name else first_name


def quote(text: str, name: str | None) -> str:
    """A review as it stands in a mail."""
    return f"\u201c{text}\u201d" + (f" ({name})" if name else "")
