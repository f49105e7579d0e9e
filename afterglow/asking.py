"""How often a provider may be asked, and when again: pure planning over whole microseconds.

A rate of ten a second is kept by giving each request an instant of its own, a tenth of a second after the one before.
So no window holds more than the rate allows, whoever asks and however many they are; a bucket of tokens would let
through a full bucket and, right after it, what has trickled in meanwhile.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

#: How often a document is asked for before its element is parked; with `wait_after` this is most of a day.
TRIES_MAX: Final = 12
_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(hours=6)
#: How long a source is left alone that says "too many" and not until when, and the longest that it may wish.
QUIET: Final = timedelta(seconds=10)
LONGEST_QUIET: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """When requests of one source may go, and when the next one after them may."""

    at: Sequence[datetime]
    free_at: datetime


def turns(free_at: datetime, now: datetime, wanted: int, *, spacing: timedelta, before: datetime) -> Turns:
    """The next instants at which a request may go, at most `wanted`, all of them earlier than `before`.

    Args:
      free_at: the first instant that nobody took yet.
      spacing: from one request to the next.
    """
    first = max(free_at, now)
    room = -((first - before) // spacing) if first < before else 0
    given = min(wanted, room)
    return Turns(at=[first + n * spacing for n in range(given)], free_at=first + given * spacing if given else free_at)


def wait_after(tries: int) -> timedelta:
    """How long to wait after so many failures (1 or more): a minute, doubled each time, six hours at most."""
    return min(_FIRST_WAIT * (1 << min(tries - 1, 20)), _LONGEST_WAIT)


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, in seconds or as a date (RFC 9110, 10.2.3); None where it says nothing.

    Never less than nothing and never more than a day.
    """
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        wished = timedelta(seconds=int(text))
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        wished = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return min(max(wished, timedelta(0)), LONGEST_QUIET)
