"""`leaderboard`: who brings most friends, or has earned most points."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from afterglow.language.shop import Shop
    from db.leaderboards import View


class Format(StrEnum):
    """How it is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(leaderboard)


def leaderboard(
    programme: Annotated[str, typer.Argument(help="The programme, such as friends.")],
    metric: Annotated[
        str | None, typer.Option("--metric", help="referrals, revenue, rewards or points; the first that there is.")
    ] = None,
    period: Annotated[
        str, typer.Option("--period", help="all, this-month, last-week, 2026-10, 2026-W09, or a season of shop.yaml.")
    ] = "all",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="So many places.")] = 20,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.TABLE,
) -> None:
    """Show who stands where in a programme, and who moved."""
    from afterglow.spreadsheet import as_csv
    from db import leaderboards
    from workers.commands.console import say_json, say_lines, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        shop = desk.release(connection).catalog.shop
        view = leaderboards.view(
            connection,
            shop.calendar,
            desk.now(connection),
            programme=programme,
            metric=metric,
            period=period,
            limit=limit,
        )
    if form is Format.JSON:
        say_json(leaderboards.as_json(view, shop))
        return
    if form is Format.CSV:
        say_lines([as_csv(*leaderboards.as_rows(view, shop)).rstrip("\r\n")])
        return
    say_board(view, shop)
    say_next(("afterglow why CUSTOMER", "what happened to one of them"))


def say_board(view: "View", shop: "Shop") -> None:
    """A stretch of a board as a table, and what all on it have together."""
    from afterglow.leaderboards import in_units
    from workers.commands.console import count, moment, say, say_table

    unit = shop.model.currency if view.metric.unit == "money" else ""
    value = f"{view.metric.label.lower()}{f', {unit}' if unit else ''}"
    say_table(
        ("rank", "customer", "name", value, "moved"),
        [
            (
                one.place.rank,
                one.place.customer_id,
                one.name,
                in_units(view.metric, one.place.value, shop.to_major),
                "" if view.before is None else "new" if one.movement is None else f"{one.movement:+}",
            )
            for one in view.places
        ],
        title=f"{view.board.programme}, {view.season.name}",
        numbers=("rank", "customer", value, "moved"),
    )
    total = in_units(view.metric, view.total, shop.to_major)
    say(f"{count(view.placed, 'customer')}, {total}{f' {unit}' if unit else ''} in all.")
    if view.seals:
        seal = view.seals[-1]
        say(f"Sealed {moment(seal.sealed_at)} UTC, revision {seal.revision}, digest {seal.digest[:16]}.")
