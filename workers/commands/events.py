"""`event` and `start`: what happened and what is asked for, said by hand. It goes the way of every event."""

import json
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from afterglow.native import NativeEvent
    from db.catalog import Release

_Model = TypeVar("_Model", bound="BaseModel")

SOURCE = "command-line"


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(event)
    main.command()(start)


def event(
    name: Annotated[str, typer.Argument(help="Such as order.paid.")],
    customer: Annotated[str, typer.Option(help="An address, our number, or the id that a source uses.")],
    key: Annotated[str | None, typer.Option(help="The same for repeats, so that it counts once.")] = None,
    payload: Annotated[str, typer.Option(metavar="JSON", help='Such as {"order": {"id": "1"}}.')] = "{}",
    stage: Annotated[str | None, typer.Option(help="The stage that the customer enters by it.")] = None,
    consent: Annotated[str | None, typer.Option(help="granted or withdrawn: a word about marketing.")] = None,
    topic: Annotated[str, typer.Option(help="What the consent is about.")] = "*",
    at: Annotated[str | None, typer.Option(help="When it happened, such as 2026-03-02T09:00:00+01:00; now.")] = None,
    first_name: Annotated[str | None, typer.Option()] = None,
    last_name: Annotated[str | None, typer.Option()] = None,
    locale: Annotated[str | None, typer.Option(help="Such as en or fr.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Such as Europe/Berlin.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Say that something happened to a customer.

    An address that is not known yet makes a new customer.
    """
    import uuid
    from hashlib import sha256

    from afterglow.native import NativeEvent
    from db.intake import Received, receive_once
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        who: dict[str, str | int | None] = {
            "first_name": first_name,
            "last_name": last_name,
            "locale": locale,
            "timezone": timezone,
        }
        who |= {"email": customer} if "@" in customer else {"customer": desk.customer(connection, customer)}
        given = {
            "event": name,
            "key": key or uuid.uuid4().hex,
            "occurred_at": at,
            "stage": stage,
            "customer": {field: value for field, value in who.items() if value is not None},
            "consent": {"state": consent, "topic": topic} if consent else None,
            "payload": _json(payload),
        }
        happened = _valid(NativeEvent, given)
        _known(happened, desk.release(connection))
        body = happened.model_dump_json(exclude_none=True).encode()
        row = Received(source=SOURCE, key=happened.key, digest=sha256(body).digest(), headers={}, body=body)
        is_new = receive_once(connection, row, desk.now(connection))
    if as_json:
        say_json({"source": SOURCE, "key": happened.key, "new": is_new})
        return
    if is_new:
        say(f"{name} of {customer} is in the inbox under the key {happened.key}.")
    else:
        say(f"{name} of {customer} was in the inbox already under the key {happened.key}; it counts once.")
    say_next((f"afterglow why {customer}", "what came of it"), ("afterglow inbox", "what could not be understood"))


def start(
    flow: Annotated[str, typer.Argument(help="A flow that starts when it is asked.")],
    customer: Annotated[str, typer.Argument(help="An address, our number, or the id that a source uses.")],
    key: Annotated[str | None, typer.Option(help="The same for repeats, so that it counts once.")] = None,
    given: Annotated[str, typer.Option(metavar="JSON", help='What the flow is to know, such as {"size": 42}.')] = "{}",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Ask a flow to start for a customer.

    Its file says `starts: {asked: true}`.
    """
    import uuid
    from hashlib import sha256

    from afterglow.native import NativeAsking
    from afterglow.starting import not_to_be_asked
    from db.intake import Received, receive_once
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import UnknownError, opened

    with opened() as desk, desk.database.writing() as connection:
        if (why := not_to_be_asked(desk.release(connection).catalog, flow)) is not None:
            raise UnknownError(why)
        who = {"customer": desk.customer(connection, customer)}
        asked = {"key": key or uuid.uuid4().hex, "customer": who, "given": _json(given, "--given")}
        happened = _valid(NativeAsking, asked).event(flow, by=SOURCE)
        body = happened.model_dump_json(exclude_none=True).encode()
        row = Received(source=SOURCE, key=happened.key, digest=sha256(body).digest(), headers={}, body=body)
        is_new = receive_once(connection, row, desk.now(connection))
    if as_json:
        say_json({"source": SOURCE, "key": happened.key, "new": is_new})
        return
    say(f"{flow} is asked to start for {customer}." if is_new else f"{flow} was asked already under this key.")
    say_next((f"afterglow why {customer} --flow {flow}", "what came of it"))


def _json(text: str, option: str = "--payload") -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}.") from None


def _valid(model: "type[_Model]", given: dict[str, Any]) -> "_Model":
    """What is said, held to the same rules as what comes by the API."""
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise typer.BadParameter(f"{told}.") from None


def _known(happened: "NativeEvent", release: "Release") -> None:
    """An event or a stage that no file knows is most likely a slip of the pen."""
    from afterglow.problems import did_you_mean
    from workers.commands.opening import UnknownError

    events, stages = release.catalog.events, release.catalog.stage_names
    if happened.event not in events:
        raise UnknownError(
            f"No source, and not flows/shop.yaml, knows an event '{happened.event}'."
            f"{did_you_mean(happened.event, events) or ' Name it under events: in flows/shop.yaml and apply.'}"
        )
    if happened.stage is not None and happened.stage not in stages:
        raise UnknownError(
            f"'{happened.stage}' is not a stage of this shop; they are {', '.join(sorted(stages))}."
            f"{did_you_mean(happened.stage, stages)}"
        )
