"""The first page: what needs a person now, and a calm word where nothing does."""

from starlette.responses import Response

from db import occupancy, overview
from web.pages.look import Look

#: What a button on another page did, told once, by the word that it left in the address.
_DONE = {
    "halted": "Marketing is halted. Nothing more of it is sent; service mail goes on.",
    "resumed": "Marketing goes on. Nothing is repeated, and nothing was skipped.",
    "still-halted": "That halt is taken back, but all marketing is halted still.",
    "retried": "It will be tried again in a moment.",
    "nothing": "Nothing was waiting any more, so nothing changed.",
}


def needs_you(look: Look) -> Response:
    """What needs somebody, most urgent first."""
    zone = look.release.catalog.shop.zone
    needs = overview.needs(look.connection, look.now, zone)
    return look.page(
        "needs_you",
        tab="needs",
        needs=needs,
        alarms=[(alarm, alarm.sentence(look.now, zone)) for alarm in needs.alarms],
        today=overview.today(look.connection, look.now),
        last_mail_at=occupancy.last_at(look.connection),
        done=_DONE.get(look.word("done") or ""),
        flows=sorted(look.release.catalog.flows),
    )
