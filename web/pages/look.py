"""What every page needs: the request, an instant, an open connection, the files in force, and how to say things."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from markupsafe import Markup
from sqlalchemy.engine import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from db.app import App
from db.catalog import NothingAppliedError, Release
from db.directory import ID_MAX
from web import wording
from web.links import read_form
from web.render import page

#: Longest word that a filter takes from an address.
WORD_MAX: Final = 200
#: How wide pictures are for a large screen and for a phone, in pixels; the stylesheet shows the one that fits.
WIDTHS: Final = {"wide": 1184, "phone": 358}


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at one page."""

    app: App
    request: Request
    connection: Connection
    now: datetime
    release: Release

    @property
    def zone(self) -> ZoneInfo:
        """The shop's zone: exact times are told in it."""
        return self.release.catalog.shop.zone

    @property
    def shop_name(self) -> str:
        return self.release.catalog.shop.model.name

    def word(self, name: str) -> str | None:
        """A filter of the address: text without control characters, or None."""
        given = "".join(c for c in self.request.query_params.get(name, "") if c.isprintable()).strip()
        return given[:WORD_MAX] or None

    def number(self, name: str) -> int | None:
        """A filter of the address that is a number of ours, or None."""
        return as_id(self.request.query_params.get(name, ""))

    def here(self, **changes: object) -> str:
        """This page's address with some of its filters changed; None takes one out."""
        words: dict[str, object] = dict(self.request.query_params) | changes
        kept = {name: str(value) for name, value in words.items() if value is not None}
        return self.request.url.path + (f"?{urlencode(kept)}" if kept else "")

    def time(self, moment: datetime | None, zone: ZoneInfo | None = None) -> Markup:
        """An instant: relative, exact on hover."""
        return wording.time_tag(moment, self.now, zone or self.zone)

    def exact(self, moment: datetime, zone: ZoneInfo | None = None) -> str:
        """An instant to the minute."""
        return wording.exact(moment, zone or self.zone)

    def page(self, template: str, /, *, tab: str, code: int = 200, **values: Any) -> Response:
        """The answer made of `templates/pages/team/TEMPLATE.html`.

        Args:
          tab: the entry of the menu that the page belongs to.
        """
        return page(f"team/{template}", status=code, look=self, tab=tab, words=wording, **values)

    def not_found(self, sentence: str, *, tab: str = "") -> Response:
        """The page for an address that names nothing."""
        return self.page("not_found", tab=tab, code=404, sentence=sentence)


Making = Callable[[Look], Response]


def in_each_width(draw: Callable[[float], str]) -> dict[str, Markup]:
    """A picture in each width, by its class in the stylesheet; what is drawn is SVG of ours, its words escaped."""
    return {name: Markup(draw(width)) for name, width in WIDTHS.items()}


def as_id(given: str) -> int | None:
    """A number of ours, or None where it can be none."""
    if not (given.isascii() and given.isdecimal()) or len(given) > 19:
        return None
    return int(given) if int(given) <= ID_MAX else None


def showing(app: App, make: Making) -> Callable[[Request], Response]:
    """An endpoint that reads. Starlette runs it in a thread, as it is no coroutine."""

    @wraps(make)
    def endpoint(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        if any(not value for _, value in pairs):  # a form sends its empty fields, too; an address is for sharing
            kept = urlencode([(name, value) for name, value in pairs if value])
            return RedirectResponse(request.url.path + (f"?{kept}" if kept else ""), 303)
        with app.reading() as connection:
            try:
                release = app.catalog.current(connection)
            except NothingAppliedError:
                return page("team/nothing_applied", status=503)
            now = app.clock.now(connection)
            return make(Look(app=app, request=request, connection=connection, now=now, release=release))

    return endpoint


Acting = Callable[[App, Mapping[str, str]], str]


def acting(app: App, act: Acting) -> Callable[[Request], Any]:
    """An endpoint that changes something, then leads to the address that `act` returns.

    Whether the request came from a page of ours was decided before it comes here (web/security.py).
    """

    @wraps(act)
    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        return RedirectResponse(await run_in_threadpool(act, app, form), 303)

    return endpoint
