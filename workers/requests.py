"""Obeying what customers ask for by way of a provider, by the code behind `afterglow forget` and `export`.

Every customer is forgotten in a transaction of their own, so that what was done stays done when a process dies; a
request that is looked at again finds only those who are left.
"""

from typing import Any, Final

import structlog

from db import privacy, requests
from db.app import App

log = structlog.get_logger()

#: Requests, and customers of one source, that are seen to in one round.
REQUESTS_MAX: Final = 100
FORGOTTEN_MAX: Final = 500
#: Raw webhooks emptied by one transaction.
BATCH: Final = 1000


def obey(app: App) -> int:
    """Do what is asked, oldest first. How many requests were looked at."""
    with app.reading() as connection:
        asked = requests.asked(connection, REQUESTS_MAX)
    for request in asked:
        match request.kind:
            case "forget":
                _forget(app, request)
            case "export":
                _find(app, request)
            case _:
                _forget_everybody(app, request)
    return len(asked)


def _forget(app: App, request: Any) -> None:
    """Forget whoever the request names: one customer, or two who were never seen to be one."""
    secret, forgotten = app.settings.secrets[0], 0
    while True:
        with app.writing() as connection:
            now = app.clock.now(connection)
            left = requests.customers_of(connection, secret, request.source, request.who)
            if left:
                privacy.forget(connection, left[0], now, secret, also=request.who.values())
                forgotten += 1
                continue
            emptied = privacy.forget_stranger(connection, request.who.values())
            told = "done" if forgotten else "nobody here is known by what it names, so there was nobody to forget"
            requests.close(connection, request, now, told)
        log.info("a request to forget is obeyed", request=request.id, customers=forgotten, webhooks=emptied)
        return


def _find(app: App, request: Any) -> None:
    """Find whose data is asked for; handing it over is for a person of the shop."""
    with app.writing() as connection:
        requests.erase_for_good(connection)
        who = requests.customers_of(connection, app.settings.secrets[0], request.source, request.who)
        if who:
            requests.found(connection, request, who)
        else:
            told = "nobody here is known by what it names, so there is nothing to hand over"
            requests.close(connection, request, app.clock.now(connection), told)
    log.info("a customer asks for their data", request=request.id, customers=len(who))


def _forget_everybody(app: App, request: Any) -> None:
    """Forget those known only by the source, as many as one round takes; the next round finds the others."""
    secret = app.settings.secrets[0]
    with app.reading() as connection:
        ids = requests.known_only_by(connection, request.source, FORGOTTEN_MAX)
    for customer in ids:
        with app.writing() as connection:
            privacy.forget(connection, customer, app.clock.now(connection), secret)
    log.info("customers of one source are forgotten", request=request.id, customers=len(ids))
    if len(ids) == FORGOTTEN_MAX:
        app.hint("tend")
        return
    emptied = BATCH
    while emptied == BATCH:
        with app.writing() as connection:
            requests.erase_for_good(connection)
            emptied = requests.empty_webhooks_of(connection, request.source, BATCH)
    with app.writing() as connection:
        requests.close(connection, request, app.clock.now(connection), "done")
