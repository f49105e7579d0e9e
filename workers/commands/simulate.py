"""`simulate`: a flow lived through by made-up customers, or by those of a segment."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    from afterglow.backtest import History
    from afterglow.language.flow.graph import Flow
    from afterglow.simulate import Plan, Simulated

#: So many customers are lived through between two looks of the bar.
_SLICE = 250


def add_to(main: typer.Typer) -> None:
    """Declare the command."""
    main.command()(simulate)


def simulate(
    flow: Annotated[str, typer.Argument(help="The flow, live or a draft.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="For how long; customers come evenly over it.")] = 90,
    customers: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many come.")] = 1000,
    segment: Annotated[str | None, typer.Option(help="The real customers of this segment instead.")] = None,
    answers: Annotated[str, typer.Option(help="The share of waits for an event that one ends.")] = "50%",
    stops: Annotated[str, typer.Option(help="The share of customers whom each `stops` event befalls.")] = "0%",
    begins: Annotated[str | None, typer.Option("--from", help="The first day; today unless given.")] = None,
    seed: Annotated[int, typer.Option(help="Another number is another fate for everybody.")] = 1,
    svg: Annotated[Path | None, typer.Option(help="File for the mails of each day, as a picture.")] = None,
    folder: Annotated[Path | None, typer.Option(help="The shop's folder.", file_okay=False, exists=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Let many customers live through a flow, before real ones do.

    Mails a day, caps hit, how long it takes, who is left inside. They are made up, or those of a segment.
    The other live flows run beside it, and nobody gets a mail.
    """
    from afterglow.simulate import Plan
    from db.settings import load_settings
    from workers.commands.console import say_json
    from workers.files import find_shop_folder
    from workers.testing import shop_under_test

    shop = shop_under_test(folder or find_shop_folder(load_settings().shop_dir))
    plan = Plan(
        shop=shop,
        flow=_known(flow, shop.catalog.flows),
        starts=_midnight(begins, shop.catalog.shop.zone),
        days=days,
        seed=seed,
        answers=_share(answers, "--answers"),
        stops=_share(stops, "--stops"),
    )
    found = _watched(plan, customers, segment, quiet=as_json)
    if svg is not None:
        svg.write_text(_picture(plan, found), encoding="utf-8")
    if as_json:
        say_json(_plain(plan, found))
    else:
        _tell(plan, found, segment)


def _known(flow: str, flows: "Mapping[str, Flow]") -> str:
    from afterglow.problems import did_you_mean
    from workers.commands.opening import UnknownError

    if flow not in flows:
        raise UnknownError(f"No flow is called '{flow}' in this folder.{did_you_mean(flow, flows)}")
    return flow


def _midnight(day: str | None, zone: "ZoneInfo") -> "datetime":
    from datetime import date, datetime, time

    from afterglow.local_time import from_wall
    from workers.commands.console import instant

    try:
        first = date.fromisoformat(day) if day else instant().astimezone(zone).date()
    except ValueError:
        raise typer.BadParameter(f"--from {day}: write it as 2026-11-01.") from None
    return from_wall(datetime.combine(first, time()), zone)


def _share(written: str, option: str) -> float:
    try:
        share = float(written.removesuffix("%")) / 100
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{option} {written}: write it as 50%, from 0% to 100%.")
    return share


@contextmanager
def _people(plan: "Plan", customers: int, segment: str | None) -> "Iterator[tuple[int, Iterator[Sequence[History]]]]":
    """How many there are, and who: made up, or those of a segment as they are known today."""
    from afterglow.problems import did_you_mean
    from afterglow.simulate import made_up
    from db import lives
    from workers.commands.opening import UnknownError, opened

    if segment is None:
        yield customers, made_up(plan, range(1, customers + 1))
        return
    with opened() as desk:
        with desk.database.reading() as connection:
            count, known = lives.count_members(connection, segment), desk.release(connection).catalog.segments
            now = desk.now(connection)
        if not count:
            raise UnknownError(f"Nobody is in a segment '{segment}'.{did_you_mean(segment, known)}")
        yield count, lives.members(desk.database, desk.settings.secrets[0], plan.catalog.shop, segment, now)


def _watched(plan: "Plan", customers: int, segment: str | None, *, quiet: bool) -> "Simulated":
    """Live through it in slices, with a bar on standard error where that is a terminal."""
    from itertools import islice

    from afterglow.simulate import Simulated, simulate
    from workers.commands.progress import bar

    found = Simulated(days=plan.days)
    with _people(plan, customers, segment) as (total, people), bar("customers", quiet=quiet) as say:
        while some := list(islice(people, _SLICE)):
            found.add(simulate(plan, some))
            say(found.customers / total, found.customers)
    return found


def _tell(plan: "Plan", found: "Simulated", segment: str | None) -> None:
    """What came of it, for people."""
    from afterglow.pictures.bars import columns
    from workers.commands.console import count, say, say_lines, say_next, width

    came, days = count(found.customers, "customer"), count(plan.days, "day")
    whose = f" of the segment {segment}" if segment else ""
    say(f"{plan.flow}: {came}{whose} over {days}, seed {plan.seed}.", style="bold")
    if not found.runs:
        say("The flow began for nobody: its `when` is not true of them, or its `once_per` is nothing that they bring.")
        return
    mails = sum(found.mails)
    say(
        f"{count(found.runs, 'run')} began; {count(mails, 'mail')} and notes went, {mails / found.runs:.1f} a run; the "
        f"other live flows sent the same customers {found.others:,}."
    )
    say()
    say("Mails a day:", style="bold")
    say_lines(columns(found.mails, width(), _ends(plan)))
    say()
    for line in _times(plan, found):
        say(line)
    _tell_counted("Kept back by the rails:", {"had to wait": found.deferred, "did not go": found.dropped})
    _tell_ways(plan, found)
    say()
    who = (
        "All are as they are known today"
        if segment
        else "All are new, agreed to marketing and live where the shop does"
    )
    if plan.is_for_companies:
        who += ", each alone of their company" if segment else f", in companies of {_listed(plan.roles)}"
    say(
        f"{plan.answers:.0%} of its waits for an event are answered, and each event that stops it befalls "
        f"{plan.stops:.0%} of customers, at moments drawn by chance. {who}; what events carry is an example, and marks "
        "are one to five.",
        style="dim",
    )
    say_next((f"afterglow graph {plan.flow}", "the flow as a picture"), ("afterglow test", "what must come of what"))


def _listed(roles: "Sequence[str | None]") -> str:
    """Whom a made-up company consists of, in words."""
    return ", ".join(f"one {role}" if role else "one person" for role in roles)


def _times(plan: "Plan", found: "Simulated") -> list[str]:
    """How long runs took, and who is left."""
    half, most = found.took_at_most(0.5), found.took_at_most(0.9)
    lines = []
    if half is not None and most is not None:
        lines.append(f"Half of the runs ended within {_long(half)}, nine of ten within {_long(most)}.")
    lines.append(
        f"{found.inside:,} of {found.runs:,} were still inside after day {plan.days}."
        if found.inside
        else f"Nobody was still inside after day {plan.days}."
    )
    if found.stopped:
        lines.append(f"{found.stopped:,} were stopped by an event.")
    lines.append(f"{found.stuck:,} never leave: nothing moves them on." if found.stuck else "Everybody leaves.")
    return lines


def _long(time: "timedelta") -> str:
    minutes = round(time.total_seconds() / 60)
    if minutes >= 2 * 24 * 60:
        return f"{minutes / 60 / 24:.1f} days"
    return f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes} minutes"


def _tell_counted(title: str, counted: "Mapping[str, Counter[str]]") -> None:
    from workers.commands.console import count, say

    if not any(counted.values()):
        return
    say()
    say(title, style="bold")
    for verb, reasons in counted.items():
        for reason, number in reasons.most_common():
            say(f"{count(number, 'mail')} {verb}: {reason}.", indent=2)


def _tell_ways(plan: "Plan", found: "Simulated") -> None:
    """Which part of the runs went which way, in the order of the flow's steps."""
    from workers.commands.console import say

    flow = plan.played
    steps = sorted(found.ways, key=lambda step: flow.document.place(flow.steps[step].path))
    if not steps:
        return
    say()
    say("Ways taken:", style="bold")
    for step in steps:
        ways = found.ways[step]
        told = ", ".join(f"{name} {number / ways.total():.0%}" for name, number in sorted(ways.items()))
        say(f"{step} ({ways.total():,}): {told}", indent=2)


def _ends(plan: "Plan") -> tuple[str, str]:
    return _day(plan, 0), _day(plan, plan.days - 1)


def _day(plan: "Plan", n: int) -> str:
    from datetime import timedelta

    return str(plan.starts.astimezone(plan.shop.catalog.shop.zone).date() + timedelta(days=n))


def _picture(plan: "Plan", found: "Simulated") -> str:
    from afterglow.pictures.bars import bars_picture

    title = f"{plan.flow}: mails a day for {found.customers:,} customers"
    return bars_picture(title, found.mails, [_day(plan, n) for n in range(plan.days)])


def _plain(plan: "Plan", found: "Simulated") -> dict[str, object]:
    half, most = found.took_at_most(0.5), found.took_at_most(0.9)
    return {
        "flow": plan.flow,
        "from": _day(plan, 0),
        "days": plan.days,
        "seed": plan.seed,
        "customers": found.customers,
        "runs": found.runs,
        "mails": found.mails,
        "mails_of_other_flows": found.others,
        "deferred": dict(found.deferred),
        "dropped": dict(found.dropped),
        "median_minutes": None if half is None else round(half.total_seconds() / 60),
        "nine_of_ten_minutes": None if most is None else round(most.total_seconds() / 60),
        "stopped": found.stopped,
        "inside_after": found.inside,
        "never_leave": found.stuck,
        "ways": {step: dict(ways) for step, ways in found.ways.items()},
    }
