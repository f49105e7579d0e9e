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
    verify: Annotated[
        bool, typer.Option("--verify", help="Count every score anew; status 1 where one is another.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Count every score anew, and put right what differs.")
    ] = False,
) -> None:
    """Show who stands where in a programme, and who moved.

    With --verify or --rebuild, prove its boards: every metric and season is counted anew from what was recorded.
    """
    if verify or rebuild:
        _prove(programme, rebuild=rebuild)
        return
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


def _prove(programme: str, *, rebuild: bool) -> None:
    """Count a programme's scores anew, and say which differ; put them right where that is wanted."""
    from sqlalchemy.exc import OperationalError

    from afterglow.errors import AfterglowError
    from afterglow.problems import did_you_mean
    from db import leaderboards, recounting
    from workers.commands.console import complain, count, say, say_next
    from workers.commands.opening import opened

    with opened() as desk:
        with desk.database.reading() as connection:
            catalog = desk.release(connection).catalog
            now = desk.now(connection)
            known = {*catalog.loyalty, *catalog.referrals, *(name for name, _ in leaderboards.boards(connection))}
        if programme not in known:
            raise AfterglowError(f"There is no programme '{programme}'.{did_you_mean(programme, sorted(known))}")
        calendar = catalog.shop.calendar
        try:
            with desk.database.writing() if rebuild else desk.database.reading() as connection:
                recounting.at_one_instant(connection)
                wrong = recounting.miscounted(connection, programme)
                found = (
                    recounting.rebuild(connection, calendar, programme, now)
                    if rebuild
                    else recounting.differences(connection, calendar, programme)
                )
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "40001":  # serialization_failure
                raise
            raise AfterglowError(
                f"Somebody changed the boards of {programme} meanwhile, so nothing was done; run it again."
            ) from None
    for one in (*found, *wrong):
        (say if rebuild else complain)(str(one))
    differ = len(found) + len(wrong)
    if not differ:
        say(f"The boards of {programme} are what was recorded.", style="bold")
        return
    if rebuild:
        say(f"The boards of {programme} are put right: {count(differ, 'difference')}.", style="bold")
        return
    say(f"The boards of {programme}: {count(differ, 'difference')}.", style="bold red")
    say_next((f"afterglow leaderboard {programme} --rebuild", "put them right"))
    raise typer.Exit(1)
