"""The command line: `afterglow COMMAND`. Commands stand in `workers/commands/`, a family a file.

Exit status: 0 done, 1 it could not be done or something was found (one sentence on standard error says what to do),
2 the command was called wrongly.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from afterglow import __version__
from workers.commands import (
    backfill,
    coupons,
    customers,
    demo,
    events,
    files,
    flows,
    halting,
    health,
    importing,
    inbox,
    leaderboard,
    ledger,
    loyalty,
    me,
    merging,
    planning,
    processes,
    referrals,
    review,
    seeing,
    segments,
    simulate,
    sources,
    tasks,
    testing,
    unwinding,
    webhooks,
)
from workers.commands.failing import sentence


class _Group(TyperGroup):
    """Tells every error that we know about in one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = sentence(error)
            if told is None:
                raise
            from workers.commands.console import complain

            complain(told)
            raise typer.Exit(1) from None


main = typer.Typer(
    name="afterglow",
    cls=_Group,
    help="Mail flows, loyalty and referral in your own database, as files you can test.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"afterglow {__version__}")
        raise typer.Exit


@main.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Mail flows, loyalty and referral in your own database, as files you can test."""


FAMILIES = (
    files, planning, review, testing, simulate, seeing, sources, processes, demo, events, importing, backfill, inbox,
    halting, flows, customers, merging, ledger, loyalty, coupons, referrals, webhooks, unwinding, leaderboard, segments,
    tasks, me, health,
)  # fmt: skip
for family in FAMILIES:
    family.add_to(main)

if __name__ == "__main__":
    main()
