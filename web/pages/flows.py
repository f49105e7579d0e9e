"""Flows: who is inside, on which step, and what became of the mails."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from afterglow.language.flow.graph import Notify, Send
from afterglow.outline import outline
from afterglow.pictures import flow_picture
from db import control, occupancy, overview, touchpoints
from db.app import App
from db.pictures import on_steps
from web.pages.look import Look, as_id, in_each_width

#: Fates of mails as the tables count them.
FATES: Final = {
    "sent": ("sent",),
    "waiting": ("queued", "held", "sending"),
    "skipped": ("skipped",),
    "trouble": ("failed", "rejected", "in_doubt"),
}
AT_ONCE: Final = 5_000
PAGES_MAX: Final = 1_000


def flows(look: Look) -> Response:
    """Every flow in force, those of the shop's priority first."""
    shop = look.release.catalog.shop
    listed = sorted(look.release.catalog.flows.values(), key=lambda flow: (shop.rank(flow.name), flow.name))
    status = look.word("status")
    return look.page(
        "flows",
        tab="flows",
        flows=[flow for flow in listed if status is None or flow.status == status],
        chosen=status,
        standing=occupancy.occupancy(look.connection),
        halted=touchpoints.halted(look.connection),
    )


def flow(look: Look) -> Response:
    """One flow: its steps with the people on them, and its text."""
    name = look.request.path_params["name"]
    flow = look.release.catalog.flows.get(name)
    if flow is None:
        return look.not_found(f"There is no flow “{name}” in force.", tab="flows")
    standing = occupancy.occupancy(look.connection)
    known = set(flow.steps)
    strays = {
        step: count
        for (of, step, state), count in standing.people.items()
        if of == name and step is not None and step not in known and state != "sending"
    }
    people = on_steps(standing, flow, linked=True)
    return look.page(
        "flow",
        tab="flows",
        flow=flow,
        pictures=in_each_width(lambda width: flow_picture(flow, people, width=width, alone=False)),
        lines=outline(flow),
        mail_steps={step.id for step in flow.steps.values() if isinstance(step, Send | Notify)},
        standing=standing,
        measures=occupancy.measures(look.connection),
        strays=strays,
        version=occupancy.version(look.connection, look.release.flow_id(name), name),
        halted=touchpoints.halted(look.connection),
    )


def runs(look: Look) -> Response:
    """The people behind a figure."""
    state = look.word("state") or "waiting"
    if state not in occupancy.STANDING:
        return look.not_found(f"Runs are waiting, paused or parked here, never “{state}”.", tab="flows")
    page = min(look.number("page") or 0, PAGES_MAX)
    of, step = look.word("flow"), look.word("step")
    found = occupancy.standing(look.connection, state=state, flow=of, step=step, page=page)
    return look.page(
        "runs",
        tab="flows",
        found=found,
        state=state,
        states=occupancy.STANDING,
        flow=of,
        step=step,
        page=page,
        flows=sorted({*look.release.catalog.flows, *([of] if of else [])}),
    )


def retry(app: App, form: Mapping[str, str]) -> str:
    """Let one parked run go on, or all of them."""
    with app.writing() as connection:
        if form.get("all") == "parked":
            ids = overview.parked_run_ids(connection, limit=AT_ONCE)
        else:
            one = as_id(form.get("id", ""))
            ids = [] if one is None else [one]
        done = control.retry_runs(connection, ids, app.clock.now(connection))
    app.hint("advance")
    return "/?done=retried" if done else "/?done=nothing"
