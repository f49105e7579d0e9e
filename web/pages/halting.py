"""The red button: a page that says what halting or resuming will do, and the button that does it."""

from collections.abc import Mapping

from starlette.responses import Response

from db import control, occupancy, touchpoints
from db.app import App
from web.pages.look import Look

#: Who halted, where a page did: it does not know people.
BY = "the web page"


def ask_halt(look: Look) -> Response:
    """Ask before marketing stops: what is queued would be held."""
    flow = look.word("flow")
    if flow is not None and flow not in look.release.catalog.flows:
        return look.not_found(f"There is no flow “{flow}” in force.", tab="needs")
    return look.page("halt", tab="needs", flow=flow, figures=_figures(look, flow))


def ask_resume(look: Look) -> Response:
    """Ask before marketing goes on: what is held goes."""
    flow = look.word("flow")
    if (flow or control.ALL) not in touchpoints.halted(look.connection):
        return look.not_found(
            f"Marketing of {flow or 'all flows'} is not halted, so there is nothing to resume.", tab="needs"
        )
    return look.page("resume", tab="needs", flow=flow, figures=_figures(look, flow))


def _figures(look: Look, flow: str | None) -> occupancy.Marketing:
    return occupancy.marketing(look.connection, flow)


def halt(app: App, form: Mapping[str, str]) -> str:
    """Stop marketing of one flow, or of all."""
    flow = form.get("flow") or control.ALL
    with app.writing() as connection:
        if flow != control.ALL and flow not in app.catalog.current(connection).catalog.flows:
            return "/?done=nothing"
        control.halt(connection, flow, by=BY, now=app.clock.now(connection))
    return "/?done=halted"


def resume(app: App, form: Mapping[str, str]) -> str:
    """Take a halt back."""
    flow = form.get("flow") or control.ALL
    with app.writing() as connection:
        if flow not in touchpoints.halted(connection):
            return "/?done=nothing"
        control.resume(connection, flow, now=app.clock.now(connection))
        still = control.ALL in touchpoints.halted(connection)
    app.hint("deliver")
    return "/?done=still-halted" if still else "/?done=resumed"
