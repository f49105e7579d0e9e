"""When points can be spent, and when they expire."""

from datetime import datetime
from zoneinfo import ZoneInfo

from afterglow.language.programme import Expiry, Hold
from afterglow.loyalty.periods import period


def activates_at(hold: Hold | None, earned_at: datetime, zone: ZoneInfo) -> datetime:
    """The instant from which on points can be spent, unless an event makes them spendable before."""
    return earned_at if hold is None else hold.at_most.after(earned_at, zone)


def expires_at(expiry: Expiry | None, earned_at: datetime, zone: ZoneInfo) -> datetime | None:
    """The first instant at which points can no longer be spent; None where they never expire.

    It counts from earning, on the shop's calendar: a month after 31 January is the last day of February. Points that
    expire after inactivity get their first term here; `prolonged` moves it.
    """
    if expiry is None:
        return None
    if expiry.after is None:
        return prolonged(expiry, earned_at, zone)
    end = expiry.after.after(earned_at, zone)
    return end if expiry.end_of is None else period(expiry.end_of, end, zone)[1]


def prolonged(expiry: Expiry | None, active_at: datetime, zone: ZoneInfo) -> datetime | None:
    """The instant at which all of a customer's points expire who did nothing since; None where nothing is prolonged."""
    if expiry is None or expiry.inactive is None:
        return None
    return expiry.inactive.after(active_at, zone)
