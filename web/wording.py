"""How pages say things: instants, figures, amounts, names and states, as short as a table wants them. Pure."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from afterglow.language.shop import Shop

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
#: Up to here an instant is told as its distance; after it as its date.
_FAR = 14 * _DAY

#: States of messages as people say them.
STATES = {
    "queued": "queued",
    "held": "held",
    "sending": "sending",
    "sent": "sent",
    "skipped": "skipped",
    "rejected": "rejected",
    "failed": "failed",
    "in_doubt": "in doubt",
}
#: States that need a person.
RED = frozenset({"failed", "in_doubt", "rejected", "parked"})


def ago(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """An instant as its distance from now: `5 min ago`, `in 3 h`; far ones as a date in `zone`."""
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    if distance < 45:
        return "just now" if seconds >= 0 else "in a moment"
    if distance >= _FAR:
        return day(moment, now, zone)
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if distance >= size or unit == "min":
            told = f"{max(1, int(distance / size))} {unit}"
            return f"{told} ago" if seconds >= 0 else f"in {told}"
    raise AssertionError(distance)


def day(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """A date, with its year only where that is not this one: `2 Mar`, `2 Mar 2024`."""
    local = moment.astimezone(zone)
    year = f" {local.year}" if local.year != now.astimezone(zone).year else ""
    return f"{local.day} {local:%b}{year}"


def exact(moment: datetime, zone: ZoneInfo) -> str:
    """An instant to the minute in a zone, named: `Mon 2 Mar 2026, 09:00 Europe/Paris`."""
    local = moment.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %Y}, {local:%H:%M} {zone.key}"


def time_tag(moment: datetime | None, now: datetime, zone: ZoneInfo) -> Markup:
    """An instant as HTML: relative, with the exact one on hover; a dash where there is none."""
    if moment is None:
        return Markup('<span class="soft">-</span>')
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), exact(moment, zone), ago(moment, now, zone)
    )


def amount(minor: int, shop: Shop) -> str:
    """An amount in the shop's currency, without its sign: that stands in the column's head."""
    return f"{shop.to_major(minor):,}"


def name_of(row: Any) -> str:
    """What to call a customer: the name, else the address, else the number."""
    name = " ".join(part for part in (row.first_name, row.last_name) if part)
    number = getattr(row, "customer_id", None) or row.id
    return name or row.email or f"Customer {number}"


def mail_name(template: str) -> str:
    """A template's name without its folder: `thank-you`."""
    return template.rpartition("/")[2].removeprefix("_")


def count(number: object, thing: str, things: str | None = None) -> str:
    """`1 mail`, `2 mails`, `10,000+ mails`."""
    told = f"{number:,}" if isinstance(number, int) else str(number)
    return f"{told} {thing if told == '1' else things or thing + 's'}"
