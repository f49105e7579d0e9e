"""A talk with a provider as a pure generator: it yields calls, is sent the replies, and returns what came of it.

So each provider's rules read from top to bottom, and whoever makes the calls decides when, how fast and how long. A
talk can break off after any call and be begun again from the start: it asks for the same code, and takes "there is one
already" for success only where that one carries our mark.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from afterglow.asking import QUIET


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request; the path stands below the provider's base. Not shown: a path may hold a code."""

    method: Literal["GET", "POST", "PUT"]
    path: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back: the status, the JSON of the body (None where it is none), and how long we are to be quiet."""

    status: int
    content: Any = field(default=None, repr=False)
    quiet: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Created:
    """The provider has the code, and it is ours."""

    external_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Disabled:
    """The code is out of use; `was_used` where an order had used it before."""

    was_used: bool


class TroubleError(Exception):
    """It did not work.

    Args:
      what: ends the sentence "shopify ...": `answered 500`. Never anything of a body.
      for_good: trying again changes nothing.
      quiet: how long the provider wants to be left alone.
    """

    def __init__(self, what: str, *, for_good: bool = False, quiet: timedelta | None = None) -> None:
        super().__init__(what)
        self.what, self.for_good, self.quiet = what, for_good, quiet


Creating = Generator[Call, Reply, Created]
Disabling = Generator[Call, Reply, Disabled]


def settled(reply: Reply, *fine: int) -> Any:
    """The JSON of a reply whose status is one of those.

    Raises:
      TroubleError: it is another one. What the next person can correct (a token, a permission) is tried again, so that
        nothing is lost until they do.
    """
    status = reply.status
    if status in fine and reply.content is not None:
        return reply.content
    if status in fine:
        raise TroubleError("answered with something else than JSON")
    if status == 429:
        raise TroubleError("answered 429, too many requests", quiet=QUIET if reply.quiet is None else reply.quiet)
    if status in (401, 403):
        raise TroubleError(f"answered {status}: renew its credentials, and see that they may create discounts")
    if status >= 500 or status in (408, 409, 425):
        raise TroubleError(f"answered {status}", quiet=reply.quiet)
    raise TroubleError(f"answered {status}", for_good=True)


def field_of(content: Any, *path: str | int) -> Any:
    """What stands at a path in JSON; None where nothing does."""
    for part in path:
        if isinstance(part, str) and isinstance(content, dict):
            content = content.get(part)
        elif isinstance(part, int) and isinstance(content, list) and len(content) > part:
            content = content[part]
        else:
            return None
    return content


def found_again(there: Any, is_ours: bool) -> Created:
    """A code that the provider says it has, as it was found there.

    Raises:
      TroubleError: it is not found after all, or not ours.
    """
    if there is None:
        raise TroubleError(NOT_FOUND)
    if not is_ours:
        raise TroubleError(NOT_OURS, for_good=True)
    return Created(external_id=str(there["id"]))


NOT_OURS = "has the code already, and not from us"
NOT_FOUND = "says that the code exists, and does not find it"
