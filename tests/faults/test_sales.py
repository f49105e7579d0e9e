"""One sale told by three sources, each many times and in any order, while everything is killed: one of everything.

Short with the other tests, long by `make faults`: 5,000 sales, each told by a shop, a payment provider and a CRM in
five deliveries on average and up to fifty, while web and workers are killed sixty times.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from db.tables import customers, events, inbox, touchpoints
from tests.examples import LONG
from tests.faults.client import Post
from tests.faults.rig import SCHEDULER, WEB, WORKER, Rig, distributed, haunt, plan
from tests.faults.shop import files
from tests.faults.test_faults import REST_S_MAX, chance

__all__ = ["chance"]

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(1500 if LONG else 240),
]

#: More deliveries of one webhook than this never come; so many come on average.
DELIVERIES_MAX, DELIVERIES = 50, 5

_FLOW = {
    "flow": "first-order",
    "about": "Thank",
    "status": "live",
    "starts": {"stage": "purchase"},
    "once_per": "order.id",
    "topic": "care",
    "steps": [{"send": "email/receipt", "id": "receipt"}],
}


def _source(name: str, payload: Mapping[str, Any], **further: Any) -> str:
    rule = {
        "event": "order.paid",
        "stage": "purchase",
        "customer": {"id": "body.who", "email": "body.email"},
        "payload": {"order": payload},
        **further,
    }
    auth = {"scheme": "standard_webhooks", "secrets": ["GENERIC_WEBHOOK_SECRET"]}
    return json.dumps({"source": name, "auth": auth, "key": "body.id", "events": [rule]})


@cache
def three_sources() -> Mapping[str, str]:
    """The shop's files: three sources of one event, which the first of them owns."""
    kept = {path: text for path, text in files().items() if "sources/" not in path}
    shop = json.loads(kept["flows/shop.yaml"]) | {"owners": {"order": "shop"}}
    order = {"id": "body.order | text", "total": "body.total | money('EUR')"}
    return kept | {
        "flows/shop.yaml": json.dumps(shop),
        "flows/first-order.yaml": json.dumps(_FLOW),
        "flows/sources/shop.yaml": _source("shop", order),
        "flows/sources/pay.yaml": _source("pay", {"card": "body.card | text"}, joins="body.order"),
        "flows/sources/crm.yaml": _source("crm", {"owner": "body.owner | text"}, joins="body.order"),
    }


def told(sales: int, *, seconds: float, chance: random.Random) -> list[Post]:
    """What three sources tell of so many sales, shuffled and repeated."""
    posts = []
    for number in range(sales):
        address = f"c{number}@example.com"
        for source, said in (
            ("shop", {"who": f"s{number}", "email": address, "total": "40.00"}),
            ("pay", {"who": f"p{number}", "email": address if number % 2 else None, "card": "visa"}),
            ("crm", {"who": f"d{number}", "owner": "Kim"}),
        ):
            body = json.dumps({"id": f"{source}-{number}", "order": str(number), **said}).encode()
            deliveries = min(DELIVERIES_MAX, 1 + int(chance.expovariate(1 / (DELIVERIES - 0.5))))
            posts += [
                Post(at=chance.uniform(0, seconds), key=f"{source}-{number}", body=body, source=source)
                for _ in range(deliveries)
            ]
    return posts


def rows(rig: Rig, query: sa.Select[Any]) -> Sequence[Any]:
    with rig.database.reading() as connection:
        return connection.execute(query).all()


def test_one_sale_told_by_three_sources_is_one_event_and_one_thank_you_whatever_is_killed(
    tmp_path: Path, chance: random.Random
) -> None:
    sales, seconds = (5000, 240.0) if LONG else (40, 5.0)
    kills = {"worker": 30, "web": 30} if LONG else {"worker": 2, "web": 1}
    faults = plan(chance, seconds=seconds, kills=kills)
    with distributed(tmp_path, three_sources()) as rig:
        for name, words in (("worker-1", WORKER), ("worker-2", WORKER), ("web", WEB), ("scheduler", SCHEDULER)):
            rig.process(name, words)
        rig.keep()
        rig.until_ready()
        posts = told(sales, seconds=seconds, chance=chance)
        shop = rig.client(posts, chance)
        shop.start()
        haunt(rig, faults)
        left = shop.join(300 if LONG else 90)
        rig.until_done(REST_S_MAX)

        found = rows(rig, sa.select(events.c.source, events.c.name, events.c.payload))
        mails = Counter(row.state for row in rows(rig, sa.select(touchpoints.c.state)))
        webhooks = Counter(row.state for row in rows(rig, sa.select(inbox.c.state)))
        [[people]] = rows(rig, sa.select(sa.func.count()).select_from(customers))
        figures = {"posts": len(posts), "faults": dict(rig.faults), "refusals": shop.refusals, "mails": dict(mails)}
        print(json.dumps(figures, indent=2))
        assert left == 0, "every delivery was acknowledged in the end"
        assert len(posts) > 3 * sales * DELIVERIES * (0.8 if LONG else 0.6)
        assert webhooks == {"mapped": 3 * sales}
        assert sorted(int(row.payload["order"]["id"]) for row in found) == list(range(sales))
        assert {(row.source, row.name) for row in found} == {("shop", "order.paid")}
        for row in found:
            assert {**row.payload["order"], "id": None} == {"id": None, "total": 40, "card": "visa", "owner": "Kim"}
        assert people == sales
        assert mails == {"sent": sales}, "service mail is sent in the end"
        per_sale = Counter(int(line["touchpoint"]) for line in rig.relay.accepts())
        assert len(per_sale) == sales
        doctor = rig.command("doctor", "--json")
        assert doctor.returncode == 0, doctor.stdout
