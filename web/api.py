"""`POST /api/events` and `/api/flows/NAME/start`: what happened, and what is asked for, from programs with the key."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from afterglow.errors import AfterglowError
from afterglow.language.catalog import Catalog
from afterglow.mapping import Unmappable
from afterglow.mapping.intake import parsed
from afterglow.native import NativeAsking, NativeEvent
from afterglow.problems import did_you_mean
from afterglow.starting import not_to_be_asked
from db.app import App
from db.catalog import NothingAppliedError
from db.intake import Received
from web.intake import RETRY_AFTER_S, Intake, IntakeUnavailable, NotStorable
from web.security import holds_key

#: The source of these events.
SOURCE: Final = "api"
_Answer = TypeVar("_Answer")


class Accepted(BaseModel):
    """The event is on the disk and will be recorded once, however often it is posted."""

    accepted: Literal[True] = True
    event: str
    key: str


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Such as customer.email; empty for the whole body.")
    problem: str


class Refusal(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str
    problems: list[FieldProblem] = Field(default_factory=list)


class ApiError(AfterglowError):
    """A request is refused with a status."""

    def __init__(self, status: int, sentence: str, problems: Iterable[FieldProblem] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.problems = list(problems)


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": when}
    for status, when in (
        (400, "The body cannot be read."),
        (401, "The key is missing or wrong."),
        (403, "No key is set here, so nothing is accepted."),
        (413, "The body is larger than 256 KB."),
        (422, "The event cannot be understood; the answer says what is wrong with it."),
        (503, "The database cannot be written just now; post it again after Retry-After seconds."),
    )
}


def make_api(app: App, intake: Intake) -> APIRouter:
    """The routes below `/api`."""
    router = APIRouter(prefix="/api", tags=["events"])

    @router.post("/events", status_code=202, response_description="It is on the disk.", responses=_REFUSALS)
    async def record_event(event: NativeEvent, request: Request) -> Accepted:
        """Record something that happened to a customer. Repeats under the same key count once.

        Send the key of the installation in the header Authorization, after "Bearer ". The event's name must be known: a
        source brings it, or "events" in flows/shop.yaml declares it.
        """
        body = _storable(await request.body())
        await run_in_threadpool(_check_words, app, event)
        return await accepted(event, body)

    @router.post(
        "/flows/{name}/start",
        status_code=202,
        response_description="It is on the disk.",
        responses={**_REFUSALS, 404: {"model": Refusal, "description": "No live flow of this name is to be asked."}},
    )
    async def start_flow(name: str, asking: NativeAsking, request: Request) -> Accepted:
        """Ask a flow to start for a customer. Repeats under the same key count once.

        The flow says `starts: {asked: true}`; what is `given` is known in its conditions and mails as `given`.
        """
        _storable(await request.body())
        if (why := (await run_in_threadpool(_in_force, app, lambda it: not_to_be_asked(it, name)))) is not None:
            raise ApiError(404, why)
        event = asking.event(name, by=SOURCE)
        return await accepted(event, event.model_dump_json(exclude_none=True).encode())

    async def accepted(event: NativeEvent, body: bytes) -> Accepted:
        try:
            await intake.accept([Received(SOURCE, event.key, hashlib.sha256(body).digest(), {}, body)])
        except IntakeUnavailable as error:
            raise ApiError(503, str(error)) from None
        except NotStorable as error:
            raise ApiError(422, str(error)) from None
        return Accepted(event=event.event, key=event.key)

    return router


def check_key(app: App, request: Request) -> JSONResponse | None:
    """The refusal of a request below `/api` that does not hold the key; None where it does.

    Judged before the body is looked at: a stranger learns nothing about it.
    """
    if not app.settings.key.get_secret_value():
        return answer(ApiError(403, "The API is closed: set AFTERGLOW_KEY in the environment and restart."))
    if not holds_key(request.headers, app.settings):
        return answer(ApiError(401, "Send the key as `Authorization: Bearer AFTERGLOW_KEY`."))
    return None


def _storable(body: bytes) -> bytes:
    """The body as it may be stored: of bounded depth. Raises ApiError."""
    try:
        parsed(body)
    except Unmappable as error:
        raise ApiError(422, str(error)) from None
    if b"\\u0000" in body:
        raise ApiError(422, "The body holds the character U+0000, which no database keeps; leave it out.")
    return body


def _in_force(app: App, ask: Callable[[Catalog], _Answer]) -> _Answer:
    """What is asked of the files in force. Raises ApiError where they cannot be read."""
    try:
        with app.reading() as connection:
            catalog = app.catalog.current(connection).catalog
    except (sa.exc.SQLAlchemyError, NothingAppliedError) as error:
        sentence = str(error) if isinstance(error, AfterglowError) else str(IntakeUnavailable())
        raise ApiError(503, sentence) from None
    return ask(catalog)


def _check_words(app: App, event: NativeEvent) -> None:
    if problems := _in_force(app, lambda catalog: unknown_words(catalog, event)):
        raise ApiError(422, " ".join(problem.problem for problem in problems), problems)


def unknown_words(catalog: Catalog, event: NativeEvent) -> list[FieldProblem]:
    """The names in an event that this shop does not know, with what may have been meant."""
    problems = []
    if event.event not in catalog.events:
        sentence = f"The event '{event.event}' is not known; declare it under `events` in flows/shop.yaml."
        problems.append(FieldProblem(field="event", problem=sentence + did_you_mean(event.event, catalog.events)))
    if event.stage is not None and event.stage not in catalog.stage_names:
        sentence = f"The stage '{event.stage}' is not in flows/stages.yaml."
        problems.append(FieldProblem(field="stage", problem=sentence + did_you_mean(event.stage, catalog.stage_names)))
    topic = event.consent.topic if event.consent else "*"
    if topic not in {"*", *catalog.shop.model.topics}:
        sentence = f"The topic '{topic}' is not in flows/shop.yaml."
        problems.append(
            FieldProblem(field="consent.topic", problem=sentence + did_you_mean(topic, catalog.shop.model.topics))
        )
    return problems


def answer(error: ApiError) -> JSONResponse:
    """A refusal as it is sent."""
    headers = {503: {"retry-after": str(RETRY_AFTER_S)}, 401: {"www-authenticate": "Bearer"}}.get(error.status)
    content = Refusal(error=str(error), problems=error.problems).model_dump()
    return JSONResponse(content, error.status, headers)


def as_refusal(error: RequestValidationError) -> ApiError:
    """What FastAPI found wrong with a body, in sentences."""
    problems = [_problem(found) for found in error.errors()]
    told = "; ".join(f"{p.field or 'the body'} {p.problem}" for p in problems[:5])
    return ApiError(422, f"The request cannot be understood: {told}.", problems)


def _problem(found: Mapping[str, Any]) -> FieldProblem:
    path = [str(part) for part in found["loc"][1:] if not isinstance(part, int) or found["type"] != "json_invalid"]
    message: str = found["msg"]
    match found["type"]:
        case "missing":
            message = "is missing"
        case "extra_forbidden":
            message = "is not known" + did_you_mean(path[-1], NativeEvent.model_fields).rstrip(".?")
        case "value_error":
            message = message.removeprefix("Value error, ")
        case "model_attributes_type" if not path:
            message = "is not a JSON object, or its Content-Type is not application/json"
        case "json_invalid":
            message = "is not JSON"
            path = []
        case "string_pattern_mismatch" if path == ["event"]:
            message = "is not a name such as order.paid"
        case _:
            message = "should be " + message.removeprefix("Input should be ") if "Input should" in message else message
    return FieldProblem(field=".".join(path), problem=message)
