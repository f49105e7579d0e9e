"""`unwind`: take back everything that an order brought."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workers.unwinding import Unwound

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(unwind)


def unwind(
    order: Annotated[str, typer.Argument(help="The order, as its source calls it: 1001, or shopify/1001.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, without personal data: it is kept.")],
    by: Annotated[str, typer.Option("--by", help="Who says so; you, unless given.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, say what would happen.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take back all that an order brought; shows first what that is.

    Points, tier progress, rewards, places on boards, and the runs about it: as a refund of the whole does, and for
    orders of which no refund comes.
    """
    from db.app import open_app
    from db.settings import load_settings
    from workers.commands.console import say, say_json, say_next
    from workers.commands.opening import me, opened
    from workers.unwinding_by_hand import by_hand

    with opened():  # says what to do where there is no database
        pass
    # No broker: it must work while Redis is down, and the scheduler sees what is due.
    app = open_app(load_settings().model_copy(update={"broker_url": ""}))
    try:
        with app.writing() as connection:
            subject, done = by_hand(connection, app, order, reason=reason, by=by or me(), now=app.clock.now(connection))
            if not yes:
                connection.rollback()
    finally:
        app.close()
    if as_json:
        say_json({"order": subject, "done": yes and done is not None, **(_told(done) if done else {})})
        return
    if done is None:
        say(f"{subject} was unwound before.")
        return
    say(f"{subject} {'is unwound' if yes else 'would be unwound'}:", style="bold")
    for line in _lines(done) or ["Nothing hangs on it."]:
        say(line, indent=2)
    if not yes:
        say_next((f"afterglow unwind {order} --reason ... --yes", "do it"))


def _lines(done: "Unwound") -> list[str]:
    from workers.commands.console import count

    lines = [
        f"{one.amount:,} {one.asset} of customer {one.customer_id} in {one.programme}"
        + (f", and {-one.progress:,} towards the tier" if one.progress else "")
        for one in done.clawbacks
    ]
    lines += [
        f"referral {one.id} of {one.programme}: {one.state.value}, customer {one.referrer_id} brought {one.referee_id}"
        for one in done.referrals
    ]
    if done.runs:
        lines.append(f"{count(done.runs, 'run')} end, {count(done.messages, 'queued message')} will not go")
    return lines


def _told(done: "Unwound") -> dict[str, Any]:
    return {
        "points": [
            {"programme": one.programme, "customer": one.customer_id, "asset": one.asset, "amount": one.amount}
            for one in done.clawbacks
        ],
        "referrals": [{"referral": one.id, "state": one.state.value} for one in done.referrals],
        "runs": done.runs,
        "messages": done.messages,
    }
