"""`doctor`: proof that nothing is lost or stuck."""

from typing import Annotated

import typer


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False) -> None:
    """Prove that nothing is lost or stuck, and say what is missing.

    Every open run waits for exactly one thing, no webhook, lease or hint stands still; sources have their secrets and
    bring addresses, clocks agree, and the public address leads here. Exit status 1 where something is wrong; warnings
    alone are 0.
    """
    from dataclasses import asdict

    from db.broker import make_broker
    from db.connections import examine_sources
    from db.doctor import examine, examine_broker, exit_status
    from workers.commands.console import instant, say, say_json, say_next, say_table
    from workers.commands.opening import opened
    from workers.reach import examine_public_address

    with opened() as desk:
        with desk.database.reading() as connection:
            now = desk.now(connection)
            found = examine(connection, now, desk.settings)
            found += examine_sources(connection, now, desk.settings, here=instant())
        found += examine_public_address(desk.settings)
        if not desk.settings.embedded:
            found += examine_broker(make_broker(desk.settings.broker_url))
    found.sort(key=lambda finding: finding.severity != "error")
    status = exit_status(found)
    if as_json:
        say_json({"healthy": not status, "findings": [asdict(finding) for finding in found]})
    elif not found:
        say("Nothing is lost, and nothing is stuck.")
        say_next(("afterglow flows", "what is in force, and who is inside"))
    else:
        say_table(
            ("", "how many", "what", "such as"),
            [
                (
                    finding.severity,
                    finding.count,
                    f"{finding.what}. {finding.what_to_do}",
                    ", ".join(map(str, finding.examples)),
                )
                for finding in found
            ],
            numbers=("how many",),
        )
        say()
        say("Something is wrong." if status else "Nothing is lost; a person should look at the above.")
    if status:
        raise typer.Exit(status)
