"""Webhooks by what became of them, one webhook whole, and the events that they became."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from db import control, overview
from db.app import App
from web.pages.look import Look, as_id

#: The states by which webhooks are listed, with the title of the list.
STATES = {
    "parked": "Parked webhooks",
    "awaiting": "Webhooks that await their order",
    "fetching": "Webhooks that lack a document of their source",
    "mapped": "Webhooks that were understood",
    "ignored": "Webhooks that were let go",
}
#: What a button did, told once, by the word that it left in the address.
_DONE = {
    "replayed": "It is read again in a moment; what is recorded already is not repeated.",
    "gone": "Its body is gone, or it is being read just now, so nothing changed.",
}
#: Most elements that one press of "retry all" takes.
AT_ONCE = 5_000


def webhooks(look: Look) -> Response:
    """The list of those in one state, newest first; of those that wait for nothing, only among the newest."""
    state = look.word("state") or "parked"
    if state not in STATES:
        return look.not_found(f"Webhooks are {', '.join(STATES)} here, never “{state}”.", tab="sources")
    source = look.word("source")
    rows = overview.webhooks(
        look.connection, state, source=source, before=look.number("before"), limit=overview.PAGE + 1
    )
    return look.page(
        "webhooks",
        tab="sources",
        title=STATES[state],
        state=state,
        source=source,
        rows=rows[: overview.PAGE],
        older=rows[overview.PAGE - 1].id if len(rows) > overview.PAGE else None,
        sources=sorted({*look.release.catalog.sources, "api"}),
    )


def webhook(look: Look) -> Response:
    """One element with its body: it may hold personal data, as everything on this face."""
    id_ = as_id(look.request.path_params["id"])
    row = overview.webhook(look.connection, id_) if id_ is not None else None
    if row is None:
        return look.not_found("There is no webhook of this number.", tab="sources")
    return look.page(
        "webhook",
        tab="sources",
        done=_DONE.get(look.word("done") or ""),
        row=row,
        body=row.body.decode("utf-8", errors="replace"),
        fetched=_written(row.fetched),
    )


def _written(documents: object) -> str:
    return orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode() if documents else ""


def retry(app: App, form: Mapping[str, str]) -> str:
    """Map one element again, or every parked one (of one source, where the form names it)."""
    source = form.get("source")
    with app.writing() as connection:
        if form.get("all") == "parked":
            ids = [row.id for row in overview.webhooks(connection, "parked", source=source, limit=AT_ONCE)]
        else:
            one = as_id(form.get("id", ""))
            ids = [] if one is None else [one]
        done = control.retry_inbox(connection, ids)
    app.hint("ingest")
    return f"{'/sources' if source else '/'}?done={'retried' if done else 'nothing'}"


def replay(app: App, form: Mapping[str, str]) -> str:
    """Map one element again from its kept body, though it was settled. What is recorded already is not repeated."""
    id_ = as_id(form.get("id", ""))
    if id_ is None:
        return "/sources?done=nothing"
    with app.writing() as connection:
        done = control.replay_inbox(connection, [id_])
    app.hint("ingest")
    return f"/webhooks/{id_}?done={'replayed' if done else 'gone'}"


def events(look: Look) -> Response:
    """Everything that happened, newest first."""
    name = look.word("name")
    rows = overview.newest_events(look.connection, name=name, before=look.number("before"), limit=overview.PAGE + 1)
    return look.page(
        "events",
        tab="needs",
        event=name,
        rows=rows[: overview.PAGE],
        older=rows[overview.PAGE - 1].id if len(rows) > overview.PAGE else None,
        names=sorted(look.release.catalog.events),
    )
