"""`demo`: sixty days of a coffee roastery in less than a minute, then its pages."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from types import FrameType

    from workers.demo.clockwork import Clockwork
    from workers.demo.installation import Installation
    from workers.demo.report import Summary

#: Where it is reached, where that is free: the public face here, the private one on the next port.
PORT = 8000
#: Whose story is told at the end, as far as this flow goes.
TOLD_OF = "mara.lindqvist@example.com"
#: Exit status after Ctrl-C in the middle, as shells say it: 128 and the number of SIGINT.
INTERRUPTED = 130


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(demo)


def demo(
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days pass.")] = 60,
    customers: Annotated[int, typer.Option(min=1, max=5_000, help="How many customers come by themselves.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed, other lives; the same seed, the same mails.")] = 1,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Leave the pages open at the end.")] = True,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_534, help=f"Of the public face; the pages take the next. {PORT}, or any free."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the database in this file, which must be new.")] = None,
) -> None:
    """Show sixty days of a coffee roastery in less than a minute.

    Signed webhooks come in over HTTP, the clock jumps, workers send to the outbox, and the pages stay open at the end.
    Nothing leaves this machine, and the database is a temporary file. In a shop's folder, the shop's own flows run.
    """
    import logging

    from db.settings import load_settings
    from workers.commands.console import say
    from workers.demo.installation import installation
    from workers.logs import set_up_logs

    set_up_logs(level=logging.WARNING)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        say("Getting the roastery ready.")
        with installation(keep=keep, port=_port(port), shop_dir=load_settings().shop_dir) as shop:
            _run(shop, seed=seed, customers=customers, days=days, keep=keep, serve=serve)
    except KeyboardInterrupt:
        say()
        say("Stopped; nothing is left running." if keep is None else f"Stopped; {keep} holds what happened so far.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(shop: "Installation", *, seed: int, customers: int, days: int, keep: Path | None, serve: bool) -> None:
    from workers.commands.console import say
    from workers.commands.demo_friends import tell_of_friends
    from workers.demo.clockwork import Clockwork
    from workers.demo.posting import Poster
    from workers.demo.report import summary

    with Poster(shop.embedded.public_url, shop.secrets) as poster:
        clockwork = Clockwork(shop.app, shop.clock, shop.hints, poster, seed=seed, customers=customers, days=days)
        _watch(clockwork, days)
        with shop.app.reading() as connection:
            came = summary(connection)
        _say_summary(came)
        _tell_story(shop)
        tell_of_friends(shop, clockwork.witness)
        if not serve:
            _say_kept(shop, keep)
            return
        say()
        say("The pages are open:", style="bold")
        _say_addresses(shop, keep)
        try:
            _serve(shop, clockwork)
        except KeyboardInterrupt:
            say()
            say("Closed.")


def _watch(clockwork: "Clockwork", days: int) -> None:
    """Run it under a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from workers.demo.clockwork import Progress as Reached
    from workers.demo.lives import start_of

    start = start_of()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[webhooks]:>6,} webhooks  {task.fields[mails]:>5,} mails"),
        TimeElapsedColumn(),
        console=Console(highlight=False),
        expand=True,
    )
    with bar:
        task = bar.add_task(_day(0, days), total=float(days), webhooks=0, mails=0)

        def say(reached: Reached) -> None:
            passed = (reached.now - start).total_seconds() / 86_400
            bar.update(
                task,
                completed=passed,
                description=_day(int(passed), days),
                webhooks=reached.webhooks,
                mails=reached.mails,
            )

        clockwork.run(say)


def _day(passed: int, days: int) -> str:
    return f"Day {min(passed + 1, days):>{len(str(days))}} of {days}"


def _say_summary(came: "Summary") -> None:
    from workers.commands.console import count, say, say_table

    say()
    say_table(
        ("flow", "mail", "sent", "waiting", "skipped"),
        [
            ("" if place and came.steps[place - 1].flow == step.flow else step.flow, step.step, step.sent,
             step.waiting or None, step.skipped or None)
            for place, step in enumerate(came.steps)
        ],
        title="Mails",
        numbers=("sent", "waiting", "skipped"),
    )  # fmt: skip
    say()
    say_table(
        ("flow", "began", "done", "on the way", "stopped", "by"),
        [
            (flow.flow, flow.begun, flow.finished, flow.under_way,
             sum(number for _, number in flow.stopped) or None,
             "\n".join(f"{number} {reason}" for reason, number in flow.stopped))
            for flow in came.flows
        ],
        title="Runs",
        numbers=("began", "done", "on the way", "stopped"),
    )  # fmt: skip
    if came.reasons:
        say()
        say_table(("mails", "why not"), [(number, reason) for reason, number in came.reasons], title="Not sent",
                  numbers=("mails",))  # fmt: skip
    say()
    said = ", ".join(f"{number:,} {state}" for state, number in came.inbox)
    say(f"{count(sum(number for _, number in came.inbox), 'webhook and answer', 'webhooks and answers')}: {said}.")


def _tell_story(shop: "Installation") -> None:
    """One customer's first order, as `why` tells it."""
    from db import identity
    from db.why import heading, story
    from workers.commands.console import say
    from workers.commands.customers import say_story

    secret = shop.app.settings.secrets[0]
    with shop.app.reading() as connection:
        found = identity.find_customer(connection, secret, TOLD_OF)
        flows = shop.app.catalog.current(connection).catalog.flows
        if found is None:
            return
        flow = "first-order" if "first-order" in flows else None
        lines = story(connection, shop.app.catalog, secret, found, flow)
        who = heading(connection, found)
    say()
    say(f"afterglow why {TOLD_OF}" + (f" --flow {flow}" if flow else ""), style="dim")
    say_story(who, lines)


def _say_addresses(shop: "Installation", keep: Path | None) -> None:
    from db import identity
    from workers.commands.console import say_next

    at = shop.embedded.private_url
    with shop.app.reading() as connection:
        found = identity.find_customer(connection, shop.app.settings.secrets[0], TOLD_OF)
    steps = [(f"{at}/outbox", "every mail, as its reader sees it")]
    if found is not None:
        steps.append((f"{at}/customers/{found}", "Mara's whole story"))
    steps += [(f"{at}/", "what needs you"), *_why(shop, keep), ("Ctrl-C", "end")]
    say_next(*steps)


def _say_kept(shop: "Installation", keep: Path | None) -> None:
    from workers.commands.console import say_next

    say_next(*(_why(shop, keep) or [("afterglow demo", "the same, and the pages stay open")]))


def _why(shop: "Installation", keep: Path | None) -> list[tuple[str, str]]:
    """How to look into a database that was kept: the secret of the run goes with it."""
    if keep is None:
        return []
    secret = shop.app.settings.secret.get_secret_value()
    where = f"AFTERGLOW_DATABASE_URL=sqlite:///{keep} AFTERGLOW_SECRET={secret}"
    return [(f"{where} afterglow why {TOLD_OF}", "look into the kept file")]


def _serve(shop: "Installation", clockwork: "Clockwork") -> None:
    """Let time go on at its own pace until somebody ends it: a link that is clicked in a mail works as ever."""
    import time
    from datetime import timedelta

    began = time.monotonic()
    while not shop.embedded.ended.wait(0.5):
        shop.clock.jump(clockwork.end + timedelta(seconds=time.monotonic() - began))
        clockwork.settle()
    if shop.embedded.failure is not None:
        raise shop.embedded.failure


def _port(wanted: int | None) -> int:
    """The port asked for; otherwise the usual one, or 0 (any) where somebody listens there already."""
    import socket

    if wanted is not None:
        return wanted
    for port in (PORT, PORT + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return 0
    return PORT


def _interrupt(number: int, frame: "FrameType | None") -> None:
    raise KeyboardInterrupt
