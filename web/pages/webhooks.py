"""Webhooks that wait for a person or an order, and the events that webhooks became."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from db import control, overview
from db.app import App
from web.pages.look import Look, as_id

STATES = ("parked", "awaiting", "fetching")
#: Most elements that one press of "retry all" takes.
AT_ONCE = 5_000


def webhooks(look: Look) -> Response:
    """The list of those that wait, newest first."""
    state = look.word("state") or "parked"
    if state not in STATES:
        return look.not_found(f"Webhooks are parked, awaiting or fetching here, never “{state}”.", tab="needs")
    source = look.word("source")
    rows = overview.webhooks(
        look.connection, state, source=source, before=look.number("before"), limit=overview.PAGE + 1
    )
    return look.page(
        "webhooks",
        tab="needs",
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
        return look.not_found("There is no webhook of this number.", tab="needs")
    return look.page(
        "webhook", tab="needs", row=row, body=row.body.decode("utf-8", errors="replace"), fetched=_written(row.fetched)
    )


def _written(documents: object) -> str:
    return orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode() if documents else ""


def retry(app: App, form: Mapping[str, str]) -> str:
    """Map one element again, or every parked one."""
    with app.writing() as connection:
        if form.get("all") == "parked":
            ids = [row.id for row in overview.webhooks(connection, "parked", limit=AT_ONCE)]
        else:
            one = as_id(form.get("id", ""))
            ids = [] if one is None else [one]
        done = control.retry_inbox(connection, ids)
    app.hint("ingest")
    return "/?done=retried" if done else "/?done=nothing"


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
