"""How far a long command is, on standard error: a bar on a terminal, nothing where its output goes elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Hears which part of the work is done, and how much that was.
Say = Callable[[float, int], None]


@contextmanager
def bar(of: str, *, quiet: bool = False) -> Iterator[Say]:
    """A bar for as long as the block lasts.

    Args:
      of: what is counted, such as `events`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    counted = TextColumn("{task.percentage:>3.0f} %  {task.fields[count]:,} " + of)
    is_silent = quiet or not console.is_terminal
    with Progress(
        BarColumn(), counted, TimeRemainingColumn(), console=console, transient=True, disable=is_silent
    ) as progress:
        task = progress.add_task("", total=1.0, count=0)
        yield lambda share, count: progress.update(task, completed=share, count=count)
