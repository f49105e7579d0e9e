"""Loyalty programmes: `loyalty show`, `loyalty redeem`, `loyalty cancel`, `loyalty codes`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workers.commands.customers import AsJson, Customer


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    family = typer.Typer(help="What customers have earned, and what they get for it.", no_args_is_help=True)
    family.command()(show)
    family.command()(redeem)
    family.command()(cancel)
    family.command()(codes)
    main.add_typer(family, name="loyalty")


def show(customer: Customer, as_json: AsJson = False) -> None:
    """Say what a customer has: points, what expires next, the tier and what is missing, what they could have."""
    from db import redemptions
    from db.standing import standing_of
    from workers.commands.console import say, say_json, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = desk.customer(connection, customer)
        told = standing_of(connection, desk.release(connection), found, desk.now(connection))
        bought = redemptions.of_customer(connection, found)
    if as_json:
        say_json(
            {"customer": found, "programmes": [one.plain() for one in told], "redeemed": [asdict(r) for r in bought]}
        )
        return
    if not told:
        say("No loyalty programme is in force; flows/programmes/ has none.")
    for one in told:
        say(f"{one.programme}: {one.about}", style="bold")
        for sentence in one.sentences():
            say(sentence, indent=2)
    if bought:
        say()
        rows = [(str(r.id), r.programme, r.reward, r.code or "", r.state, f"{r.at:%Y-%m-%d %H:%M}") for r in bought]
        say_table(("redemption", "programme", "reward", "code", "state", "when"), rows)


def redeem(
    customer: Customer,
    programme: Annotated[str, typer.Argument(help="The loyalty programme.")],
    reward: Annotated[str, typer.Argument(help="The reward, by its id in the programme's file.")],
    key: Annotated[str | None, typer.Option(help="The same for repeats, so that it is given once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a customer a reward for their points."""
    import uuid

    from db import redemptions
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        found = desk.customer(connection, customer)
        given = redemptions.redeem(
            connection,
            desk.release(connection),
            found,
            programme,
            reward,
            key or uuid.uuid4().hex,
            desk.now(connection),
        )
    if as_json:
        say_json(asdict(given))
        return
    if given.state == "making":
        say(f"Redemption {given.id}: the shop is asked for a code of '{given.reward}'; the points are held until then.")
        say_next((f"afterglow loyalty show {given.customer_id}", "the code, once it stands"))
        return
    code = f" The code is {given.code}." if given.code else ""
    say(f"Redemption {given.id}: customer {given.customer_id} has '{given.reward}'.{code}")
    say_next((f"afterglow loyalty cancel {given.id}", "take it back; the points return"))


def cancel(
    redemption: Annotated[int, typer.Argument(help="Its number, as `loyalty show` lists it.")], as_json: AsJson = False
) -> None:
    """Take a reward back; the points return to the lots that they came from, with the times that those have."""
    from db import redemptions
    from workers.commands.console import say, say_json
    from workers.commands.opening import opened

    with opened() as desk, desk.database.writing() as connection:
        undone = redemptions.cancel(connection, redemption, desk.now(connection))
    if as_json:
        say_json(asdict(undone))
        return
    if undone.state == "cancelling":
        say(
            f"Redemption {undone.id} is being cancelled: the points return once the shop has taken its code out of use."
        )
        return
    code = f" Take the code {undone.code} out of use in the shop." if undone.code else ""
    say(f"Redemption {undone.id} is cancelled, and the points are the customer's again.{code}")


def codes(
    coupon: Annotated[str | None, typer.Argument(help="The coupon; all of them if left out.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Codes that the shop knows, one a line.", exists=True, dir_okay=False)
    ] = None,
    make: Annotated[int | None, typer.Option(min=1, max=100_000, help="Make so many, for the shop to import.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how many codes are left, add some from a file, or make new ones and print them.

    A code is worth something only where the shop knows it; each is handed out once.
    """
    from db import coupons
    from workers.commands.console import say, say_json, say_table
    from workers.commands.opening import opened

    if coupon is None and (from_file is not None or make is not None):
        raise typer.BadParameter("Say of which coupon.")
    if from_file is not None and make is not None:
        raise typer.BadParameter("Give --from or --make, not both.")
    with opened() as desk, desk.database.writing() as connection:
        now = desk.now(connection)
        made = coupons.make(connection, coupon, make, now) if coupon and make else []
        lines = from_file.read_text(encoding="utf-8").split() if from_file is not None else []
        added = coupons.add(connection, coupon, lines, now) if coupon and lines else len(made)
        left = coupons.left(connection)
    if coupon is not None:
        left = {coupon: left.get(coupon, 0)}
    if as_json:
        say_json({"added": added, "made": made, "left": left})
        return
    if made:
        for code in made:
            typer.echo(code)
        return
    if lines:
        say(f"{added} of {len(lines)} were new.")
    say_table(("coupon", "left"), [(name, str(count)) for name, count in left.items()])
