"""The customer's own page, `/me/{token}`: points, tier, a link to share, friends' progress, rewards. No login.

The token is all that opens it, so it goes nowhere: no referrer, no cache, no index, nothing from elsewhere on the page.
Looking changes nothing but that a code to share is made where there is none yet. Only a form of the page redeems: its
key is signed for this customer, reward and count of redemptions, so that nobody else can make one, and the same form
sent twice redeems once. `/me/{token}.json` is the same for the shop's theme; pages of the shop's own site may read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from afterglow.language.shop import Shop
from afterglow.letters import ME
from afterglow.referring.sharing import Shared, shared
from afterglow.tokens import LONG_MAC_BYTES, make_token, read_token
from db import me, people, redemptions, referrals
from db.app import App
from db.catalog import Release
from db.me import Mine
from db.people import Person
from db.redemptions import RedemptionError
from web.links import gone, read_form
from web.mine import Telling, plain
from web.render import CUSTOMER_POLICY, STATIC, page, stylesheet

#: What each answer about a customer carries beside the headers of all customer pages; a script of ours may share.
HEADERS: Final = {
    "x-robots-tag": "noindex, nofollow",
    "content-security-policy": f"{CUSTOMER_POLICY}; script-src 'self'",
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at one customer's page."""

    release: Release
    mine: Mine
    now: datetime
    shares: Mapping[str, Shared]

    @property
    def shop(self) -> Shop:
        return self.release.catalog.shop


class Me:
    """The endpoints of customers' own pages."""

    def __init__(self, app: App) -> None:
        self._app = app

    def routes(self) -> list[Route]:
        """What the public face serves of them."""
        return [
            Route("/me.css", self.css, methods=["GET"]),
            Route("/me.js", self.script, methods=["GET"]),
            Route("/me/{token}.json", self.theme, methods=["GET", "POST"]),
            Route("/me/{token}", self.me, methods=["GET", "POST"]),
        ]

    async def me(self, request: Request) -> Response:
        """Show the page, or redeem."""
        token = request.path_params["token"]
        ids = self._ids(token)
        if ids is None:
            return await run_in_threadpool(self._gone)
        if request.method == "POST":
            form = await read_form(request) if _is_from(request, self._app.settings.public_url) else {}
            return await run_in_threadpool(self._act, token, ids, form)
        return await run_in_threadpool(self._show, ids, request.query_params.get("got"))

    async def theme(self, request: Request) -> Response:
        """The same as JSON; a form posted here redeems."""
        ids = self._ids(request.path_params["token"])
        form = await read_form(request) if request.method == "POST" else None
        return await run_in_threadpool(self._theme, ids, form, request.headers.get("origin"))

    def _show(self, ids: tuple[int, int], got: str | None = None, *, problem: str = "", status: int = 200) -> Response:
        seen = self._see(ids)
        if seen is None:
            return self._gone()
        told = Telling(seen.release.catalog, seen.mine, seen.now)
        given = next((one for one in seen.mine.redeemed if str(one.id) == got), None)
        return page(
            "me",
            status=status,
            headers=HEADERS,
            shop=seen.shop.facts,
            told=told,
            mine=seen.mine,
            shares=seen.shares,
            given=given,
            problem=problem,
            key_of=lambda programme, reward: self._key(seen.mine, programme, reward),
        )

    def _act(self, token: str, ids: tuple[int, int], form: Mapping[str, str]) -> Response:
        given, problem = self._redeem(ids, form)
        if given is not None:
            return RedirectResponse(f"/me/{token}?got={given}#got", 303)
        return self._show(ids, problem=problem, status=409)

    def _theme(self, ids: tuple[int, int] | None, form: Mapping[str, str] | None, origin: str | None) -> Response:
        shop = self._shop()
        allowed = origin is not None and is_of_shop(origin, shop.model.url)
        headers = HEADERS | {"vary": "Origin"} | ({"access-control-allow-origin": origin} if allowed and origin else {})
        given, problem = None, ""
        if form is not None and ids is not None:
            # A page of the shop says where it comes from; what comes from elsewhere is no page of the shop.
            given, problem = self._redeem(ids, form if allowed or origin is None else {})
        seen = self._see(ids) if ids is not None else None
        if seen is None:
            return JSONResponse({"error": "This link leads nowhere."}, 404, headers)
        told: dict[str, Any] = self._plain(seen)
        if form is not None:
            told |= {"given": given, "problem": problem or None}
        return JSONResponse(told, 409 if problem else 200, headers)

    def _redeem(self, ids: tuple[int, int], form: Mapping[str, str]) -> tuple[int | None, str]:
        """The number of what was redeemed; or why nothing was, as a customer reads it."""
        programme, reward, key = (form.get(name, "") for name in ("programme", "reward", "key"))
        with self._app.reading() as connection:
            person = me.opened(connection, *ids)
        if person is None:
            return None, ""
        signed = self._read(f"redeem {programme} {reward}", key) if programme and reward and key.isprintable() else None
        if signed is None or signed[0] != person.id:
            return None, "This page had grown old, and nothing was taken. Here is how things stand now."
        try:
            with self._app.writing() as connection:
                release, now = self._app.catalog.current(connection), self._app.clock.now(connection)
                given = redemptions.redeem(connection, release, person.id, programme, reward, f"me/{key}", now)
        except RedemptionError:
            return None, "That one cannot be had just now, and nothing was taken."
        self._app.hint("ingest")
        self._app.hint("coupons")
        return given.id, ""

    def _see(self, ids: tuple[int, int]) -> Seen | None:
        with self._app.reading() as connection:
            person = me.opened(connection, *ids)
            if person is None:
                return None
            release, now = self._app.catalog.current(connection), self._app.clock.now(connection)
            found = me.mine(connection, release, person, now)
        programmes = frozenset(release.catalog.referrals)
        codes = found.codes if programmes <= found.codes.keys() else self._codes(person, programmes)
        return Seen(release=release, mine=found, now=now, shares=self._shares(release, person, codes))

    def _codes(self, person: Person, programmes: frozenset[str]) -> Mapping[str, str]:
        """Their codes, made where there are none: without a row, a friend's touch would not count."""
        with self._app.writing() as connection:
            kept = people.lock_kept(connection, person.id)
            now = people.load(connection, [kept], segments=True)[kept]
            if now.forgotten_at is not None:
                return {}
            found = referrals.codes(
                connection, self._app.settings.secrets[0], {kept: programmes}, self._app.clock.now(connection)
            )[kept]
        return {name: code for name, code in found.items() if name in programmes}

    def _shares(self, release: Release, person: Person, codes: Mapping[str, str]) -> Mapping[str, Shared]:
        shop = release.catalog.shop
        return {
            name: shared(
                release.catalog.referrals[name],
                person.facts(shop),
                shop.facts,
                code=code,
                link=f"{self._app.settings.public_url}/r/{code}",
            )
            for name, code in sorted(codes.items())
        }

    def _plain(self, seen: Seen) -> dict[str, Any]:
        told = plain(seen.mine)
        for programme in told["programmes"]:
            for reward in programme["rewards"]:
                reward["key"] = self._key(seen.mine, programme["programme"], reward["id"])
        told["referrals"] = [
            {"programme": name, "code": one.code, "link": one.link, "subject": one.subject, "mail": one.mail}
            | {"message": one.message}
            for name, one in seen.shares.items()
        ]
        return told

    def _key(self, mine: Mine, programme: str, reward: str) -> str:
        """What a form carries: of this customer, this reward, and this many redemptions before."""
        secret = self._app.settings.secrets[0]
        return make_token(secret, f"redeem {programme} {reward}", mine.person.id, mine.times, mac_bytes=LONG_MAC_BYTES)

    def _ids(self, token: str) -> tuple[int, int] | None:
        ids = self._read(ME, token)
        return (ids[0], ids[1]) if ids is not None and len(ids) == 2 else None

    def _read(self, purpose: str, token: str) -> tuple[int, ...] | None:
        return read_token(self._app.settings.secrets, purpose, token, mac_bytes=LONG_MAC_BYTES)

    def _shop(self) -> Shop:
        with self._app.reading() as connection:
            return self._app.catalog.current(connection).catalog.shop

    def _gone(self) -> Response:
        return gone(self._shop())

    async def css(self, request: Request) -> Response:
        """The stylesheet of the page, in the brand's colour."""
        shop = await run_in_threadpool(self._shop)
        return stylesheet("me", colour=shop.model.colour)

    async def script(self, request: Request) -> Response:
        """What makes sharing and copying one press where the browser can."""
        return FileResponse(STATIC / "me.js", headers={"cache-control": "public, max-age=300"})


def is_of_shop(origin: str, shop_url: str) -> bool:
    """Whether an Origin is the shop's own site: its scheme, its host with or without `www.`, its port."""
    there, shop = _site(origin), _site(shop_url)
    return there is not None and there == shop


def _site(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        return (parts.scheme, (parts.hostname or "").removeprefix("www."), parts.port) if parts.hostname else None
    except ValueError:
        return None


def _is_from(request: Request, public_url: str) -> bool:
    """Whether a form was sent from our own page, as far as the browser says. The form's signed key says it anyway."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    # A page without a referrer has the origin `null` in browsers that do not say Sec-Fetch-Site.
    return origin in (None, "null") or _site(origin) in (_site(public_url), _site(str(request.base_url)))
