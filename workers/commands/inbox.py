"""What could not be understood or could not go on: `inbox` (list, show, retry) and `retry` for parked runs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

#: Ids changed by one transaction.
BATCH = 1000

Source = Annotated[str | None, typer.Option(help="Only of this source.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]

family = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
)


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="inbox")
    main.command()(retry)


@family.callback()
def inbox(ctx: typer.Context) -> None:
    """What could not be understood; alone, it lists."""
    if ctx.invoked_subcommand is None:
        list_()


@family.command("list")
def list_(
    source: Source = None,
    state: Annotated[
        list[str] | None, typer.Option(help="parked, awaiting, fetching, ignored, received or mapped; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what is parked, awaits its order or lacks a document of its source, newest first."""
    from db import set_aside
    from db.tables import InboxState
    from workers.commands.console import say, say_json, say_next, say_table
    from workers.commands.opening import opened

    states = state or [InboxState.PARKED.value, InboxState.AWAITING.value, InboxState.FETCHING.value]
    if unknown := sorted(set(states) - {one.value for one in InboxState}):
        raise typer.BadParameter(f"'{unknown[0]}' is none of {', '.join(InboxState)}.")
    with opened() as desk, desk.database.reading() as connection:
        rows = set_aside.elements(connection, states, source, limit)
        counts = set_aside.count_elements(connection, source)
    if as_json:
        say_json([{**row._mapping} for row in rows])
        return
    if not rows:
        say(f"Nothing is {' or '.join(states)}.")
        return
    say_table(
        ("id", "received", "source", "state", "why"),
        [(str(row.id), row.received_at, row.source, row.state, row.reason) for row in rows],
    )
    say()
    say(", ".join(f"{number:,} {name}" for name, number in sorted(counts.items(), reverse=True)) or "")
    say_next(
        (f"afterglow inbox show {rows[0].id}", "what it holds"),
        (f"afterglow inbox retry {rows[0].id}", "map it again"),
        ("afterglow inbox retry --all-parked", "map all of them again, after a correction and `afterglow apply`"),
    )


@family.command()
def show(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    body: Annotated[bool, typer.Option("--body", help="With the body, which may hold personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one element, and what became of it."""
    from db import set_aside
    from workers.commands.console import moment, say, say_json, say_lines, say_next
    from workers.commands.opening import UnknownError, opened

    with opened() as desk, desk.database.reading() as connection:
        row = set_aside.element(connection, id_)
    if row is None:
        raise UnknownError(f"The inbox holds no element {id_}; `afterglow inbox` lists those that wait.")
    told: dict[str, Any] = {
        "id": row.id,
        "source": row.source,
        "key": row.key,
        "state": row.state,
        "reason": row.reason,
        "awaits": row.awaits,
        "received_at": row.received_at,
        "customer_id": row.customer_id,
        "bytes": len(row.body),
        "fetched": ", ".join(sorted(row.fetched or {})) or None,
        "fetch_at": row.fetch_at,
    }
    if body:
        told["headers"] = row.headers
        told["body"] = row.body.decode(errors="replace")
        told["documents"] = row.fetched
    if as_json:
        say_json(told)
        return
    told["received_at"] = moment(row.received_at) + " UTC"
    told["fetch_at"] = row.fetch_at and moment(row.fetch_at) + " UTC"
    say_lines(f"{name + ':':13} {value}" for name, value in told.items() if value not in (None, ""))
    if not row.body:
        say("Its body was emptied because of its age.")
    elif row.state in ("parked", "awaiting", "ignored", "fetching"):
        say_next((f"afterglow inbox retry {row.id}", "map it again"))


@family.command("retry")
def retry_elements(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    all_parked: Annotated[bool, typer.Option("--all-parked", help="Everything that is parked.")] = False,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Map elements again, after a correction."""
    from db import control, set_aside
    from workers.commands.console import count, say, say_json, say_next
    from workers.commands.opening import opened

    if bool(ids) == all_parked:
        raise typer.BadParameter("give the ids of elements, or --all-parked.")
    with opened() as desk:
        if all_parked:
            with desk.database.reading() as connection:
                ids = [row.id for row in set_aside.elements(connection, ["parked"], source)]
        done = 0
        for batch in _batches(ids or []):
            with desk.database.writing() as connection:
                done += control.retry_inbox(connection, batch)
    if as_json:
        say_json({"retried": done})
    else:
        say(f"{count(done, 'element')} will be mapped again.")
        say_next(("afterglow inbox", "what is parked still"))
    if done < len(ids or []) and not all_parked:
        raise typer.Exit(1)


def retry(
    runs: Annotated[list[int] | None, typer.Argument(metavar="[RUN]...")] = None,
    all_parked: Annotated[bool, typer.Option("--all-parked", help="Every run that is parked.")] = False,
    flow: Annotated[str | None, typer.Option(help="Only of this flow.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let parked runs go on; alone, it lists them."""
    from workers.commands.console import count, say, say_json, say_next
    from workers.commands.opening import opened

    if not runs and not all_parked:
        _list_runs(flow, as_json=as_json)
        return
    with opened() as desk:
        if all_parked:
            with desk.database.reading() as connection:
                runs = [row.id for row in _parked(connection, flow, None)]
        done = 0
        for batch in _batches(runs or []):
            done += _retried(desk, batch)
    if as_json:
        say_json({"retried": done})
    else:
        say(f"{count(done, 'run')} will go on.")
        say_next(("afterglow retry", "what is parked still"))
    if done < len(runs or []) and not all_parked:
        raise typer.Exit(1)


def _list_runs(flow: str | None, *, as_json: bool) -> None:
    from workers.commands.console import ROWS_MAX, say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        rows = _parked(connection, flow, None if as_json else ROWS_MAX)
    if as_json:
        say_json([{**row._mapping} for row in rows])
        return
    if not rows:
        say("No run is parked.")
        return
    say_table(
        ("run", "flow", "customer", "step", "why"),
        [(str(row.id), row.flow, str(row.customer_id), row.step, row.reason) for row in rows],
    )
    say_next((f"afterglow retry {rows[0].id}", "let it go on"), ("afterglow retry --all-parked", "let all of them"))


def _parked(connection: "Connection", flow: str | None, limit: int | None) -> Any:
    from db import set_aside

    return set_aside.parked_runs(connection, flow, limit)


def _retried(desk: Any, batch: list[int]) -> int:
    from db import control

    with desk.database.writing() as connection:
        return control.retry_runs(connection, batch, desk.now(connection))


def _batches(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
