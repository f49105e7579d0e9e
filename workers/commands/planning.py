"""Before files come into force, and after: `plan`, `releases`."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.commands.backtest import backtest
from workers.commands.files import AsJson, Folder, Form

if TYPE_CHECKING:
    from afterglow.planning import FlowChange, StepChange
    from workers.beginnings import Beginnings
    from workers.planning import FlowPlan, Group, Plan

SIGNS = {"added": "+", "changed": "~", "renamed": "~", "removed": "-"}


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(plan)
    main.command()(releases)


def plan(
    folder: Folder = None,
    since: Annotated[
        str | None, typer.Option(help="Relive what happened from this day on, such as 2026-11-01, under the files.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="text, or json for scripts.")] = Form.TEXT,
) -> None:
    """Say what a shop's files would change, and for whom.

    Before they come into force; nothing is written. With `--since` the stored history is lived again under them, and
    compared with what went. Exit status 0, whether or not anything would.
    """
    from db.clock import DatabaseClock
    from workers.commands.console import say_json
    from workers.commands.opening import opened
    from workers.files import find_shop_folder
    from workers.planning import checked_documents, make_plan

    with opened() as desk:
        folder = folder or find_shop_folder(desk.settings.shop_dir)
        if since is not None:
            backtest(desk, folder, since, as_json=form is Form.JSON)
            return
        made = make_plan(desk.database, DatabaseClock(), checked_documents(folder))
    if form is Form.JSON:
        say_json({"folder": str(folder), **plain(made)})
    else:
        tell(made)


def releases(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20, as_json: AsJson = False
) -> None:
    """List what came into force: when, by whom, of which commit."""
    from db import catalog
    from workers.commands.console import say, say_json, say_next, say_table
    from workers.commands.opening import opened

    with opened() as desk, desk.database.reading() as connection:
        found = catalog.history(connection, limit)
    if as_json:
        say_json([{key: value for key, value in row._mapping.items() if key != "manifest"} for row in found])
        return
    if not found:
        say("No files are in force yet.")
        say_next(("afterglow apply", "put a shop's files into force"))
        return
    rows = [
        (row.id, row.applied_at, row.applied_by, (row.commit or "")[:12], row.digest[:12], _files(row.manifest))
        for row in found
    ]
    say_table(("release", "when", "by", "commit", "digest", "files"), rows, numbers=("release", "files"))


def _files(manifest: dict[str, dict[str, int]]) -> int:
    return sum(map(len, manifest.values()))


def tell(made: "Plan") -> None:
    """A plan for people."""
    from workers.commands.console import say, say_lines, say_next

    if not made.is_news:
        say("These files are in force already; nothing would change.")
        return
    say_lines(lines(made))
    say()
    say(mails(made))

    command = f"afterglow apply --yes-send {made.mails_said}" if made.needs_word else "afterglow apply"
    say_next((command, "put them into force"))


def mails(made: "Plan") -> str:
    """How many mails would go because of the files, in a sentence."""
    from workers.commands.console import count

    begun = f"{count(made.mails_begun, 'mail')} would be queued as flows begin within 30 days."
    asked = "Consent, caps and quiet hours are asked when they go, so fewer may."
    if not made.mails:
        nothing = "No mail would go within 24 hours that would not go otherwise."
        return nothing if not made.mails_begun else f"{nothing} {begun} {asked}"
    return (
        f"{count(made.mails, 'mail')} to {count(made.mailed, 'customer')} would be queued within 24 hours that would "
        f"not go otherwise, {made.mails_at_once:,} of them at once. {f'{begun} ' if made.mails_begun else ''}{asked}"
    )


def in_words(made: "Plan") -> Iterator[str]:
    """A plan, a line each, with how many mails it means."""
    if not made.is_news:
        yield "These files are in force already."
        return
    yield from lines(made)
    yield ""
    yield mails(made)


def lines(made: "Plan") -> Iterator[str]:
    """What would change, a line each."""
    told = {one.change.flow for one in made.flows}
    counted = {line.removeprefix("~ programme ") for line in made.programmes if line.startswith("~")}
    for kind, names in (("added", made.added), ("changed", made.changed), ("removed", made.removed)):
        for what, name in names:
            if name not in {"flow": told, "programme": counted}.get(what, ()):
                yield f"{SIGNS[kind]} {what} {name}"
    for one in made.flows:
        yield from _flow(one)
    yield from made.programmes


def in_short(one: "FlowPlan") -> str:
    """What becomes of the people inside a flow, in one line; nothing where nobody is."""
    from workers.commands.console import count

    if not one.people:
        return ""
    inside = f": {count(one.people, 'person', 'people')} inside"
    if not one.change.moves or one.change.kind == "removed":
        return f"{inside}, who finish the version they began in"
    told = [f"{number:,} {how}" for how, number in one.moments.items() if number]
    return f"{inside}, who go over to the new version{': ' if told else ''}{', '.join(told)}"


def change_lines(change: "FlowChange") -> Iterator[str]:
    """What an edit changes of a flow, without the people."""
    yield from map(str, change.fields)
    yield from map(_step, change.steps)


def _flow(one: "FlowPlan") -> Iterator[str]:
    change = one.change
    yield f"{SIGNS[change.kind]} flow {change.flow}{in_short(one)}"
    for field in change.fields:
        yield f"    {field}"
    if one.begins is not None:
        yield f"    {_begins(one.begins)}"
    for step in change.steps:
        yield f"  {_step(step)}"
        yield from _people(one, step.was or step.step)
    changed = {step.was or step.step for step in change.steps}
    for name in dict.fromkeys(group.step for group in one.groups if group.step not in changed):
        yield f"    {name or 'past the last step'}"
        yield from _people(one, name)


def _begins(begins: "Beginnings") -> str:
    """For whom a flow would begin by itself."""
    from workers.commands.console import count

    if begins.first is None:
        return f"would begin for nobody within 30 days: {begins.by}"
    mails = f", with {count(begins.mails, 'mail')} at once" if begins.mails else ""
    who = count(begins.people, "person", "people")
    return f"would begin for {who} within 30 days, first at {_when(begins.first)}: {begins.by}{mails}"


def _step(step: "StepChange") -> str:
    renamed = f", was {step.was}" if step.was else ""
    return f"{SIGNS[step.kind]} {step.step}{renamed}{': ' if step.fields else ''}{'; '.join(map(str, step.fields))}"


def _people(one: "FlowPlan", step: str | None) -> Iterator[str]:
    for group in one.groups:
        if group.step == step:
            yield f"      {_group(group)}"
            for customer, before, after in group.examples:
                yield f"        customer {customer}: {_when(before)} -> {_when(after)}"


def _group(group: "Group") -> str:
    from workers.commands.console import count

    who = count(group.people, "person", "people")
    match group.fate:
        case "stays":
            said = f"{who}: finish as they began"
        case "ends":
            said = f"{who}: nothing is left ahead of them, so their run ends"
        case "same step":
            said = f"{who}: stay here"
        case "renamed":
            said = f"{who}: stay here, under the new id"
        case "goes on":
            said = f"{who}: go on at {group.to}"
    moments = [f"{n:,} {how}" for n, how in ((group.earlier, "earlier"), (group.later, "later")) if n]
    mails = [f"{count(group.mails, 'mail')} within 24 hours"] if group.mails else []
    return "; ".join([said, *moments, *mails])


def _when(moment: datetime | None) -> str:
    from workers.commands.console import moment as shown

    return shown(moment) or "not known"


def plain(made: "Plan") -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "release": made.release,
        **{kind: [{"kind": k, "name": n} for k, n in getattr(made, kind)] for kind in ("added", "changed", "removed")},
        "flows": [
            {
                **asdict(one.change),
                "people": [_plain_group(group) for group in one.groups],
                "begins": None if one.begins is None else asdict(one.begins),
            }
            for one in made.flows
        ],
        "mails": made.mails,
        "mails_at_once": made.mails_at_once,
        "mailed": made.mailed,
        "mails_begun": made.mails_begun,
        "programmes": list(made.programmes),
    }


def _plain_group(group: "Group") -> dict[str, Any]:
    examples = [{"customer": c, "before": before, "after": after} for c, before, after in group.examples]
    return {**asdict(group), "examples": examples}
