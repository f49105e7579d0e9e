"""The customer's side: what the links in mails lead to. No login, no cookie; the token in the link says who it is.

Looking changes nothing, because mail gateways look at every link: GET and HEAD show a page with a button, and only
POST acts. `POST /u/{token}` is also what mail programs send by themselves for List-Unsubscribe-Post (RFC 8058), so it
needs nothing but the token and the body.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from afterglow.language.shop import Shop
from afterglow.letters import UNSUBSCRIBE, rate_purpose
from afterglow.referring.attribution import CLICK, REF, spelled
from afterglow.referring.linking import carrying, own_page
from afterglow.reviews import WORDING, WORDINGS
from afterglow.surveys import SCALES, STARS, Scale
from afterglow.tokens import make_token, read_token
from db import coupons, links, referring
from db.app import App
from web.render import page, stylesheet

#: Of what a customer adds to an answer, in characters.
COMMENT_MAX: Final = 1000
#: A form here holds a word or two.
FORM_MAX: Final = 16 * 1024
_SURVEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
#: Programs that follow links without a person: crawlers, previews in chats and mails, tools.
_BOT = re.compile(
    r"bot\b|bot/|crawl|spider|preview|facebookexternalhit|whatsapp|telegram|slack|discord|skype|embedly|scan"
    r"|curl/|wget/|python|okhttp|go-http|java/|headless",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z0-9-]{1,40}")


class Links:
    """The endpoints of the links in mails."""

    def __init__(self, app: App) -> None:
        self._app = app

    def routes(self) -> list[Route]:
        """What the public face serves besides hooks."""
        return [
            Route("/u/{token}", self.unsubscribe, methods=["GET", "POST"]),
            Route("/rate/{survey}/{token}", self.rate, methods=["GET", "POST"]),
            Route("/rate/{scale}/{survey}/{token}", self.rate, methods=["GET", "POST"]),
            Route("/r/{code}", self.refer, methods=["GET"]),
            Route("/customer.css", self.css, methods=["GET"]),
        ]

    async def unsubscribe(self, request: Request) -> Response:
        """Show how the customer stands, or record what they say."""
        ids = self._ids(UNSUBSCRIBE, request.path_params["token"], 2)
        if ids is None:
            return await self.not_found(request)
        form = await read_form(request) if request.method == "POST" else {}
        return await run_in_threadpool(self._unsubscribe, ids, form, request.method == "POST")

    def _unsubscribe(self, ids: tuple[int, ...], form: Mapping[str, str], acts: bool) -> Response:
        touchpoint_id, customer_id = ids

        def say(topic: str, granted: bool, by: str) -> None:
            with self._app.writing() as connection:
                links.say(
                    connection,
                    touchpoint_id=touchpoint_id,
                    customer_id=customer_id,
                    topic=topic,
                    granted=granted,
                    by=by,
                    now=self._app.clock.now(connection),
                )

        standing, shop = self._standing(ids)
        if standing is None:
            return gone(shop)
        # What a mail program sends by itself counts as all marketing, whatever else the body holds.
        choice = "one-click" if form.get("List-Unsubscribe") == "One-Click" else form.get("choice", "")
        match choice:
            case "one-click" | "all":
                say(links.ALL, False, "one-click" if choice == "one-click" else "page")
            case "topic" if standing.topic:
                say(standing.topic, False, "page")
            case "again":
                say(links.ALL, True, "page")
                if standing.topic:
                    say(standing.topic, True, "page")
            case _ if acts:
                return self._unsubscribe_page(shop, standing, done="", status=400)
        if acts:
            self._app.hint("ingest")
            standing, shop = self._standing(ids)
            assert standing is not None
        return self._unsubscribe_page(shop, standing, done=choice, status=200)

    def _standing(self, ids: tuple[int, ...]) -> tuple[links.Standing | None, Shop]:
        with self._app.reading() as connection:
            shop = self._app.catalog.current(connection).catalog.shop
            return links.standing(connection, shop, *ids), shop

    def _unsubscribe_page(self, shop: Shop, standing: links.Standing, *, done: str, status: int) -> Response:
        topic = shop.model.topics.get(standing.topic or "")
        return page(
            "customer_unsubscribe",
            status=status,
            shop=shop.facts,
            topic=topic.label if topic else None,
            about=topic.about if topic else None,
            all_refused=standing.all_refused,
            topic_refused=standing.topic is not None and standing.topic_refused,
            done=done,
        )

    async def rate(self, request: Request) -> Response:
        """Ask for a score, or record it."""
        survey = request.path_params["survey"]
        scale = SCALES.get(request.path_params.get("scale", STARS.name))
        ids = None
        if scale is not None and _SURVEY.fullmatch(survey):
            ids = self._ids(rate_purpose(survey, scale.name), request.path_params["token"], 2)
        if scale is None or ids is None:
            return await self.not_found(request)
        form = await read_form(request) if request.method == "POST" else {}
        chosen = _score(form.get("score") or request.query_params.get("score"), scale)
        acts = request.method == "POST"
        if acts and form.get("quote") == "no":
            return await run_in_threadpool(self._take_back, ids, survey, scale)
        return await run_in_threadpool(self._rate, ids, survey, scale, chosen, form, acts)

    def _take_back(self, ids: tuple[int, ...], survey: str, scale: Scale) -> Response:
        touchpoint_id, customer_id = ids
        standing, shop = self._standing(ids)
        if standing is None:
            return gone(shop)
        with self._app.writing() as connection:
            links.take_back(connection, touchpoint_id, customer_id, survey, self._app.clock.now(connection))
        self._app.hint("ingest")
        return page("customer_rate", shop=shop.facts, scale=scale, state="unquoted")

    def _rate(
        self,
        ids: tuple[int, ...],
        survey: str,
        scale: Scale,
        score: int | None,
        form: Mapping[str, str],
        acts: bool,
    ) -> Response:
        touchpoint_id, customer_id = ids
        standing, shop = self._standing(ids)
        if standing is None:
            return gone(shop)
        if acts and score is not None:
            with self._app.writing() as connection:
                new = links.rate(
                    connection,
                    touchpoint_id=touchpoint_id,
                    customer_id=customer_id,
                    survey=survey,
                    scale=scale.name,
                    score=score,
                    comment=form.get("comment", "").strip()[:COMMENT_MAX] or None,
                    may_be_quoted=scale is STARS and form.get("quote") == "yes",
                    now=self._app.clock.now(connection),
                )
            self._app.hint("ingest")
            state = "new" if new else "again"
            return page("customer_rate", shop=shop.facts, scale=scale, chosen=score, quoted=False, state=state)
        with self._app.reading() as connection:
            rated = links.is_rated(connection, touchpoint_id, survey)
            quoted = rated and links.may_be_quoted(connection, touchpoint_id, customer_id, survey)
        return page(
            "customer_rate",
            status=400 if acts else 200,
            shop=shop.facts,
            scale=scale,
            chosen=score,
            comment_max=COMMENT_MAX,
            wording=WORDINGS[WORDING].format(shop=shop.model.name) if scale is STARS else None,
            quoted=quoted,
            state="again" if rated else "asked",
        )

    async def refer(self, request: Request) -> Response:
        """Lead a friend to the programme's page on the shop's site, with the code of who sent them; nowhere else.

        The click is recorded, and nothing of who clicked; of programs that only look at the link, not even that.
        """
        given = spelled(request.path_params["code"])
        counts = request.method == "GET" and is_a_person(request.headers)
        return RedirectResponse(await run_in_threadpool(self._refer, given, counts), 302)

    def _refer(self, given: str, counts: bool) -> str:
        with self._app.reading() as connection:
            catalog = self._app.catalog.current(connection).catalog
            code = referring.codes(connection, [given]).get(given) if _CODE.fullmatch(given) else None
        url = catalog.shop.model.url
        if code is None:
            return url
        programme = catalog.referrals.get(code.programme)
        if programme is None:
            return with_ref(url, code.code)
        page = own_page(programme.page, url)
        if not counts:
            return with_ref(page, code.code)
        with self._app.writing() as connection:
            now = self._app.clock.now(connection)
            click = referring.click(connection, code, now)
            if programme.carries is not None:  # as when the code was made, if the programme says so only now
                coupons.carry(connection, catalog.shop, {code.code: programme.carries}, now)
        there = with_ref(page, code.code, make_token(self._app.settings.secrets[0], CLICK, click))
        return carrying(there, code.code) if programme.carries is not None else there

    async def css(self, request: Request) -> Response:
        """The stylesheet of these pages, in the brand's colour."""
        shop = await run_in_threadpool(self._shop)
        return stylesheet("customer", colour=shop.model.colour)

    async def not_found(self, request: Request) -> Response:
        """The page for every link that leads nowhere: the same for all of them."""
        return gone(await run_in_threadpool(self._shop))

    def _shop(self) -> Shop:
        with self._app.reading() as connection:
            return self._app.catalog.current(connection).catalog.shop

    def _ids(self, purpose: str, token: str, count: int) -> tuple[int, ...] | None:
        ids = read_token(self._app.settings.secrets, purpose, token)
        return ids if ids is not None and len(ids) == count else None


def gone(shop: Shop) -> Response:
    """The page of every link of a customer that leads nowhere, whatever was wrong with it."""
    return page("customer_not_found", status=404, shop=shop.facts)


def with_ref(url: str, code: str, click: str | None = None) -> str:
    """The address with `ref=CODE`, and the click's token, beside whatever it asks for already."""
    parts = urlsplit(url)
    ours = [(REF, code), *([(CLICK, click)] if click else [])]
    query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in (REF, CLICK)]
    return urlunsplit(parts._replace(path=parts.path or "/", query=urlencode([*query, *ours])))


def is_a_person(headers: Mapping[str, str]) -> bool:
    """Whether a request looks like a browser's that somebody sees: no bot, no preview of a link, no prefetching."""
    agent = headers.get("user-agent", "")
    fetched_ahead = headers.get("sec-purpose", "") + headers.get("purpose", "")
    return bool(agent) and _BOT.search(agent) is None and "prefetch" not in fetched_ahead


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form, urlencoded or multipart (mail programs send either); nothing where it is neither."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_MAX:
            return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":

        async def again() -> Any:
            yield body

        try:
            fields = await MultiPartParser(request.headers, again(), max_files=0, max_fields=20).parse()
        except (MultiPartException, KeyError, ValueError):
            return {}
        return {name: value for name, value in fields.items() if isinstance(value, str)}
    try:
        pairs = parse_qs(body.decode(), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in pairs.items()}


def _score(given: str | None, scale: Scale) -> int | None:
    return int(given) if given is not None and given in {str(score) for score in scale.scores} else None
