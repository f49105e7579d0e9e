"""The two faces: what anybody may reach (hooks, links in mails) and what only the shop may (pages, API, metrics)."""

import json
import time
from typing import Any, Final

import sqlalchemy as sa
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from afterglow import __version__
from afterglow.errors import AfterglowError
from db.app import App
from db.broker import check_broker
from db.catalog import NothingAppliedError
from web import hooks, metrics
from web.api import ApiError, answer, as_refusal, check_key, make_api
from web.intake import RETRY_AFTER_S, Intake
from web.leaderboards import make_leaderboard_api
from web.links import Links
from web.me import Me
from web.pages import make_pages
from web.render import CUSTOMER_POLICY, STATIC, TEAM_POLICY, BodyLimit, StrictHeaders, page
from web.security import PrivateFace

log = structlog.get_logger()

#: `/ready` looks at most this often, in seconds, whoever asks.
READY_EVERY_S: Final = 1.0


class Faces:
    """Both faces of one process, over one intake."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.intake = Intake(app)
        self.hooks = hooks.Hooks(app, self.intake)
        self.readiness = Readiness(app)
        self.public = _public(self)
        self.private = _private(self)

    def close(self) -> None:
        """Commit what still waits."""
        self.intake.close()


def make_public(app: App) -> ASGIApp:
    """The public face alone, for tests and for servers of other people."""
    return Faces(app).public


def make_private(app: App) -> ASGIApp:
    """The private face alone."""
    return Faces(app).private


class Readiness:
    """Whether this process can do its work: the database answers, the broker answers, files are in force."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._problems: dict[str, str] = {}
        self._looked_at = -READY_EVERY_S

    def problems(self) -> dict[str, str]:
        """What is missing, in one sentence each; nothing where all is well."""
        if time.monotonic() - self._looked_at >= READY_EVERY_S:
            self._looked_at = time.monotonic()
            self._problems = self._look()
        return self._problems

    def _look(self) -> dict[str, str]:
        problems: dict[str, str] = {}
        try:
            self._app.database.check()
            with self._app.reading() as connection:
                self._app.catalog.current(connection)
        except NothingAppliedError as error:
            problems["release"] = str(error)
        except (AfterglowError, sa.exc.SQLAlchemyError):
            problems["database"] = "The database cannot be reached."
        try:
            check_broker(self._app.broker)
        except AfterglowError:
            problems["broker"] = "The broker cannot be reached."
        return problems


def _public(faces: Faces) -> ASGIApp:
    links = Links(faces.app)

    async def not_found(request: Request, error: Exception) -> Response:
        return await links.not_found(request)

    rest = Starlette(
        routes=[*_probes(faces), *links.routes(), *Me(faces.app).routes()],
        exception_handlers={404: not_found, **_UNAVAILABLE},
    )
    pages = StrictHeaders(BodyLimit(rest, hooks.BODY_MAX), CUSTOMER_POLICY)

    async def public(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (faces.hooks if scope["path"].startswith(hooks.PREFIX) else pages)(scope, receive, send)

    return public


def _private(faces: Faces) -> ASGIApp:
    app = faces.app
    api = FastAPI(
        title="Afterglow",
        version=__version__,
        description="Send events in your own words, and read leaderboards.",
        docs_url=None,  # its pages load scripts from elsewhere; ours is below
        redoc_url=None,
        exception_handlers=_UNAVAILABLE,
        routes=[*_probes(faces), *make_pages(app)],
    )
    api.include_router(make_api(app, faces.intake))
    api.include_router(make_leaderboard_api(app))
    api.mount("/static", StaticFiles(directory=STATIC), name="static")

    @api.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> Response:
        return answer(error)

    @api.exception_handler(RequestValidationError)
    async def refuse_form(request: Request, error: RequestValidationError) -> Response:
        return answer(as_refusal(error))

    @api.exception_handler(HTTPException)
    async def refuse_plainly(request: Request, error: HTTPException) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            sentence = "There is no page here." if error.status_code == 404 else f"{error.detail}."
            return page("team/not_found", status=error.status_code, sentence=sentence)
        return JSONResponse({"error": str(error.detail), "problems": []}, error.status_code, error.headers)

    @api.get("/metrics", include_in_schema=False)
    def show_metrics() -> Response:
        return Response(metrics.metrics(app, faces.hooks.counts), media_type=metrics.CONTENT_TYPE)

    @api.get("/docs", include_in_schema=False)
    def docs() -> Response:
        described = api.openapi()
        return page("docs", api=described, operations=_operations(described))

    async def with_key(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            refusal = check_key(app, Request(scope))
        await (refusal or api)(scope, receive, send)

    return StrictHeaders(PrivateFace(BodyLimit(with_key, hooks.BODY_MAX), app.settings), TEAM_POLICY)


def _probes(faces: Faces) -> list[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(request: Request) -> Response:
        problems = await run_in_threadpool(faces.readiness.problems)
        headers = {"retry-after": str(RETRY_AFTER_S)} if problems else None
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200, headers)

    return [Route("/health", health, methods=["GET"]), Route("/ready", ready, methods=["GET"])]


async def _unavailable(request: Request, error: Exception) -> Response:
    log.error("a page could not be made", path=request.url.path.split("/")[1], error=type(error).__name__)
    return Response(
        "We cannot do this just now. Please try again in a minute; nothing was changed.\n",
        503,
        {"retry-after": str(RETRY_AFTER_S)},
        "text/plain",
    )


#: Errors that pass by themselves.
_UNAVAILABLE: Final[dict[Any, Any]] = {sa.exc.SQLAlchemyError: _unavailable, NothingAppliedError: _unavailable}


def _operations(described: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of an OpenAPI document, as the page shows them."""
    return [
        {
            "method": method.upper(),
            "path": path,
            "description": operation.get("description", ""),
            "body": _schema_text(described, operation),
            "answers": [(status, told["description"]) for status, told in operation["responses"].items()],
        }
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]


def _schema_text(described: dict[str, Any], operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return ""
    schemas = described["components"]["schemas"]
    names = [name for name in schemas if name.startswith("Native")]
    return json.dumps({name: schemas[name] for name in names}, indent=2)
