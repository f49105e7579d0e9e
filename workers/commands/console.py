"""What commands say, and where: words and tables for people, JSON for scripts, errors on standard error."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Longer lists are cut in what people see, never in JSON.
ROWS_MAX = 20


def say(text: str = "", *, style: str | None = None, indent: int = 0) -> None:
    """A sentence for people, wrapped at the width of the terminal (80 where there is none)."""
    console = _out()
    for line in Text(text).wrap(console, console.width - indent) if text else (Text(""),):
        console.print(" " * indent, Text(line.plain.rstrip()), style=style, sep="", soft_wrap=True)


def say_lines(lines: Iterable[object]) -> None:
    """Lines that must stay whole, such as `file:line:col: sentence`, which editors read."""
    for line in lines:
        typer.echo(str(line))


def say_next(*steps: tuple[str, str]) -> None:
    """The next useful commands at the end of an output, as (command, what it does)."""
    longest = max(len(command) for command, _ in steps)
    console = _out()
    console.print()
    for command, about in steps:
        if longest + len(about) + 4 > console.width:
            console.print(f"  {about}:", markup=False)
            console.print(f"    {command}", style="bold", markup=False, soft_wrap=True)
        else:
            console.print(Text(f"  {command.ljust(longest)}", style="bold").append(f"  {about}", style="not bold"))


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str = "",
    numbers: Sequence[str] = (),
) -> None:
    """A table that fits the terminal; columns named in `numbers` are right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = _out()
    if title:
        console.print(title, style="bold", markup=False)
    console.print(table)


def say_json(value: object) -> None:
    """One JSON document on standard output; instants as ISO 8601 in UTC."""
    typer.echo(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def complain(text: str) -> None:
    """What went wrong, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="red", markup=False)


def moment(value: datetime | None) -> str:
    """An instant as people read it in a table, in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if value else ""


def instant() -> datetime:
    """The present instant, for commands that ask no database."""
    return datetime.now(UTC)


def count(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def width() -> int:
    """How many letters a line has room for."""
    return _out().width


def _out() -> Console:
    return Console(highlight=False)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return moment(value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return str(value).replace("[", r"\[")


def _plain(value: Any) -> object:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
