"""The pages for the team, on the private face: read on the server, whole without JavaScript."""

from starlette.routing import Route

from db.app import App
from web.pages import (
    customers,
    flows,
    halting,
    journey,
    leaderboards,
    needs_you,
    outbox,
    referrals,
    segments,
    sources,
    tasks,
    webhooks,
)
from web.pages.look import acting, showing


def make_pages(app: App) -> list[Route]:
    """Every page, and every button on them."""
    shown = {
        "/": needs_you.needs_you,
        "/webhooks": webhooks.webhooks,
        "/webhooks/{id}": webhooks.webhook,
        "/events": webhooks.events,
        "/outbox": outbox.outbox,
        "/outbox/{id}": outbox.letter,
        "/outbox/{id}/html": outbox.letter_html,
        "/customers": customers.customers,
        "/customers/{id}": customers.customer,
        "/journey": journey.journey,
        "/flows": flows.flows,
        "/flows/{name}": flows.flow,
        "/runs": flows.runs,
        "/leaderboards": leaderboards.leaderboards_,
        "/leaderboards/{programme}.csv": leaderboards.leaderboard_csv,
        "/leaderboards/{programme}": leaderboards.leaderboard,
        "/leaderboards/{programme}/{customer}": leaderboards.referrer,
        "/referrals": referrals.referrals_,
        "/segments": segments.segments_,
        "/segments/{name}": segments.segment,
        "/segments/{name}/picture": segments.picture,
        "/sources": sources.sources,
        "/tasks": tasks.tasks_,
        "/halt": halting.ask_halt,
        "/resume": halting.ask_resume,
    }
    acted = {
        "/halt": halting.halt,
        "/resume": halting.resume,
        "/webhooks/retry": webhooks.retry,
        "/webhooks/replay": webhooks.replay,
        "/runs/retry": flows.retry,
        "/referrals/decide": referrals.decide,
        "/tasks/done": tasks.do,
    }
    return [
        Route("/pictures.css", journey.stylesheet, methods=["GET"]),
        *(Route(path, acting(app, act), methods=["POST"]) for path, act in acted.items()),
        *(Route(path, showing(app, make), methods=["GET"]) for path, make in shown.items()),
    ]
