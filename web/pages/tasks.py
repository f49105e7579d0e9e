"""What teams are asked to do: open tasks with a button each, and those that were done."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from db import tasks
from db.app import App
from db.tasks import TaskError
from web.pages.look import Look, as_id

#: Who did it, where a page was told: it does not know people.
BY: Final = "the web page"
SHOWS: Final = {"open": "Open", "done": "Done"}
_DONE: Final = {
    "done": "Task {} is done. Flows that wait for it go on.",
    "late": "Task {} was done or taken back meanwhile, so nothing changed.",
}


def tasks_(look: Look) -> Response:
    """The open tasks of all teams or of one, or those that were done."""
    shown, team = look.word("show") or "open", look.word("team")
    if shown not in SHOWS:
        return look.not_found(f"There is no list “{shown}” of tasks.", tab="tasks")
    list_ = tasks.waiting if shown == "open" else tasks.finished
    return look.page(
        "tasks",
        tab="tasks",
        shows=SHOWS,
        shown=shown,
        team=team,
        teams=sorted({*look.release.catalog.shop.model.teams, *([team] if team else [])}),
        tasks=list_(look.connection, team=team),
        limit=tasks.SHOWN,
        today=look.now.astimezone(look.zone).date(),
        done=_DONE.get(look.word("done") or "", "").format(look.number("task") or "") or None,
    )


def do(app: App, form: Mapping[str, str]) -> str:
    """Note that a task is done."""
    id_ = as_id(form.get("id", ""))
    if id_ is None:
        return "/tasks"
    try:
        with app.writing() as connection:
            tasks.do(connection, id_, BY, app.clock.now(connection))
    except TaskError:
        return f"/tasks?done=late&task={id_}"
    app.hint("ingest")
    return f"/tasks?done=done&task={id_}"
