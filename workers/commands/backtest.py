"""`plan --since`: the stored history relived under the files in the folder, beside what happened."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from afterglow.backtest import Comparison, Example, Figures
    from workers.backtest import Work
    from workers.commands.opening import Desk


#: What each difference is called, in a sentence and over its column.
_DIFFERENCES = {
    "only_would": ("would have gone and did not", "only new"),
    "only_went": ("went and would not have gone", "only old"),
    "earlier": ("would have gone earlier", "earlier"),
    "later": ("would have gone later", "later"),
}


def backtest(desk: "Desk", folder: Path, since: str, *, as_json: bool) -> None:
    """Relive the stored history under the files in a folder, and tell how it compares with what happened."""
    work = work_of(desk, folder, since)
    found = watched(work, quiet=as_json)
    if as_json:
        from afterglow.backtest import plain
        from workers.commands.console import say_json

        say_json(plain(found, work.period))
    else:
        tell(found, work)


def work_of(desk: "Desk", folder: Path, since: str) -> "Work":
    """What is to be relived: from a day on up to now, under the files in a folder.

    Raises:
      Problems: everything that is wrong with the files.
    """
    from datetime import datetime

    from afterglow.language.catalog import compile_files, read_documents
    from afterglow.local_time import from_wall
    from workers.backtest import Work
    from workers.files import read_shop_folder

    documents = compile_files(read_shop_folder(folder))
    zone = read_documents({(one.kind, one.name): one.body for one in documents}).shop.zone
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise typer.BadParameter(f"--since {since}: write it as 2026-11-01 or 2026-11-01T09:00:00+01:00.") from None
    with desk.database.reading() as connection:
        now = desk.now(connection)
    return Work(
        database_url=desk.settings.database_url,
        documents=documents,
        secret=desk.settings.secrets[0],
        since=moment if moment.tzinfo else from_wall(moment, zone),
        until=now,
    )


def watched(work: "Work", *, quiet: bool) -> "Comparison":
    """Do it, with a bar on standard error where that is a terminal."""
    from workers.backtest import backtest as run
    from workers.commands.progress import bar

    with bar("events", quiet=quiet) as say:
        return run(work, say=lambda found, share: say(share, found.events))


def tell(found: "Comparison", work: "Work") -> None:
    """The comparison for people."""
    from workers.commands.console import count, moment, say, say_next, say_table

    period = work.period
    say(
        f"{count(found.events, 'event')} of {count(found.customers, 'customer')} relived; compared from "
        f"{moment(period.since)} to {moment(period.until)} UTC.",
        style="bold",
    )
    say(_reach(found, work))
    if not found.figures:
        say("No mail went, and none would have gone.")
        return
    say()
    heads = tuple(head for _, head in _DIFFERENCES.values())
    rows = [
        (flow, _mail(template), one.went, one.would, *(getattr(one, name) for name in _DIFFERENCES))
        for (flow, template), one in sorted(found.figures.items())
    ]
    say_table(("flow", "mail", "went", "would go", *heads), rows, numbers=("went", "would go", *heads))
    _tell_days(found)
    _tell_rails(found)
    _tell_examples(found)
    say()
    say(
        "Names, addresses, zones, attributes and companies are today's. What was said about consent before the last "
        "word that is stored is taken as agreed where they withdrew, and as nothing where they agreed. What programmes "
        "told is told again as it was. Halts, outages and a rate of the shop are left out.",
        style="dim",
    )
    say_next(("afterglow plan --since DAY --format json", "every figure, by flow and by day"))


def _mail(template: str) -> str:
    """A template as a narrow table has room for it."""
    return "a note to a team" if template == "email/_notify" else template.removeprefix("email/")


def _reach(found: "Comparison", work: "Work") -> str:
    from workers.commands.console import count, moment

    if found.reaches_back_to is None:
        return "Nothing is stored yet."
    told = f"The history reaches back to {moment(found.reaches_back_to)} UTC"
    if found.reaches_back_to > work.since:
        told += ", which is later than the day asked for"
    told += "."
    if found.imported:
        told += (
            f" {count(found.imported, 'event')} came late, by an import or `backfill`: what happened since "
            "the day asked for starts flows here, though it could start none then."
        )
    return told


def _tell_days(found: "Comparison") -> None:
    """Mails of each day as they would have gone, above those that went."""
    from datetime import timedelta

    from afterglow.pictures.bars import columns
    from workers.commands.console import say, say_lines, width

    first, last = min(found.days), max(found.days)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    for place, title in ((1, "Mails a day that would have gone:"), (0, "Mails a day that went:")):
        say()
        say(title, style="bold")
        counts = [found.days.get(day, [0, 0])[place] for day in days]
        say_lines(columns(counts, width(), (str(first), str(last)), height=4))


def _tell_rails(found: "Comparison") -> None:
    from workers.commands.console import count, say

    kept = [
        (flow, template, reasons, verb)
        for (flow, template), one in sorted(found.figures.items())
        for verb, reasons in (("would have waited", one.deferred), ("would not have gone", one.dropped))
        if reasons
    ]
    if not kept:
        return
    say()
    say("Kept back by the rails:", style="bold")
    for flow, template, reasons, verb in kept:
        for reason, number in reasons.most_common():
            say(f"{flow}, {_mail(template)}: {count(number, 'mail')} {verb}: {reason}.", indent=2)


def _tell_examples(found: "Comparison") -> None:
    from workers.commands.console import say

    say()
    differing = [(place, one) for place, one in sorted(found.figures.items()) if one.examples]
    if not differing:
        say("Everything would have gone as it went.")
        return
    say("For example, by our numbers:", style="bold")
    for (flow, template), one in differing:
        for name, (sentence, _) in _DIFFERENCES.items():
            if name in one.examples:
                say(f"{flow}, {_mail(template)} {sentence}: {_named(one, name)}.", indent=2)


def _named(figures: "Figures", difference: str) -> str:
    named = ", ".join(_when(example) for example in figures.examples[difference])
    more = getattr(figures, difference) - len(figures.examples[difference])
    return f"{named} and {more:,} more" if more else named


def _when(example: "Example") -> str:
    from workers.commands.console import moment

    moments = [moment(one) for one in (example.went, example.would) if one is not None]
    return f"{example.customer} ({' -> '.join(moments)})"
