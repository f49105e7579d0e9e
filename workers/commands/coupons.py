"""`coupons`: codes that wait for the shop or for a person, and what to do about them."""

from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
Numbers = Annotated[list[int], typer.Argument(help="The numbers of the codes, as `coupons list` shows them.")]

family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Codes that wait for the shop or for you.")


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.add_typer(family, name="coupons")


@family.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show the codes that wait: for the shop, or, set aside with the reason, for a person."""
    from db import coupons
    from db.tables import CouponState
    from workers.commands.console import say, say_json, say_next, say_table
    from workers.commands.opening import opened

    waiting = (CouponState.WANTED, CouponState.UNWANTED, CouponState.FAILED, CouponState.STUCK)
    with opened() as desk, desk.database.reading() as connection:
        found = coupons.listed(connection, waiting)
    if as_json:
        say_json([_told(row) for row in found])
        return
    if not found:
        say("No code waits for anything.")
        return
    rows = [(str(row.id), row.name, row.provider or "a list", row.state, row.tries, row.reason or "") for row in found]
    say_table(("code", "coupon", "from", "state", "tries", "why"), rows, numbers=("tries",))
    aside = next((row.id for row in found if row.state in ("failed", "stuck")), None)
    if aside is not None:
        say_next(
            (f"afterglow coupons retry {aside}", "ask the shop again"),
            (f"afterglow coupons dismiss {aside}", "you have seen to it"),
        )


@family.command()
def retry(codes: Numbers) -> None:
    """Ask the shop again about codes that were set aside."""
    from db import coupons
    from workers.commands.console import say
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        count = coupons.retry(connection, codes, desk.now(connection))
    say(f"{count} of {len(set(codes))} will be tried again in a moment.")


@family.command()
def dismiss(codes: Numbers) -> None:
    """Let codes that were set aside be: what could not be created is no more wanted, what was in use no longer is."""
    from workers import coupons
    from workers.commands.console import say
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        count = coupons.dismiss(connection, codes, desk.now(connection))
    say("One code waits for nobody any more." if count == 1 else f"{count} codes wait for nobody any more.")


def _told(row: Any) -> dict[str, Any]:
    """Without the code: what waits is shown to nobody."""
    names = ("id", "name", "provider", "state", "key", "tries", "due_at", "reason")
    return {name: getattr(row, name) for name in names}
