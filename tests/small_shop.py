"""A shop of a few lines for tests that need flows of their own, on the same driver as the shipped one.

with small(database_url, CHECK_IN) as driver:
    driver.post("order.paid", {"order": {"id": "o1"}}, stage="purchase")
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from afterglow.language.catalog import Document, compile_files
from db import catalog
from tests.driver import Driver, driving, shop_files
from workers.channels import Channel

SHOP: Mapping[str, Any] = {
    "name": "Small Shop",
    "url": "https://small.example",
    "sender": {"name": "Small Shop", "address": "hello@small.example"},
    "postal_address": "1 Small Street",
    "currency": "EUR",
    "timezone": "Europe/Paris",
    "topics": {"news": {"label": "News"}, "care": {"label": "Care"}},
    "teams": {"desk": {"address": "desk@small.example"}},
    "attributes": {"vip": "yes-no", "points": "number"},
    "events": {
        "order.paid": {"order.id": "text", "order.total": "number", "order.gift": "text"},
        "order.refunded": {"order.id": "text", "refund.amount": "number"},
        "ping.one": {"n": "number"},
        "ping.two": {"n": "number"},
    },
}

#: email/<name>: its front matter, and the one paragraph that it holds.
MAILS = {
    "receipt": ("kind: service", "Order {{ order.id | default('none') }}, {{ customer.first_name | default('you') }}"),
    "note": ("kind: marketing", "A note for {{ customer.first_name | default('you') }}"),
    "news": ("kind: marketing\ntopic: news", "News"),
    "gift": ("kind: service", "Your gift: {{ order.gift }}"),
    "invite": ("kind: marketing", 'Bring friends: {{ referral_link("friends") }}'),
    "offer": ("kind: marketing", 'Offer: {{ referral_variant("friends") }}'),
    "rate": ("kind: service", 'How was it? {{ rate("answer", 4) }}'),
}


def flow(name: str, steps: Sequence[Any], **further: Any) -> str:
    """The text of a flow file: live, started by order.paid, its marketing on the topic care. JSON is YAML."""
    model: dict[str, Any] = {
        "flow": name,
        "about": "A flow of the tests",
        "status": "live",
        "starts": {"event": "order.paid"},
        "topic": "care",
        "steps": list(steps),
        **further,
    }
    return json.dumps(model)


@cache
def _compiled(
    flows: tuple[str, ...], shop: str, sources: tuple[str, ...], programmes: tuple[str, ...], segments: str | None
) -> tuple[Document, ...]:
    shipped = shop_files()
    files = {path: text for path, text in shipped.items() if "/_" in path}
    files |= {path: shipped[path] for path in (f"flows/sources/{name}.yaml" for name in sources)}
    files |= {"flows/shop.yaml": shop, "flows/stages.yaml": shipped["flows/stages.yaml"]}
    files |= {f"flows/{json.loads(text)['flow']}.yaml": text for text in flows}
    files |= {f"flows/programmes/{json.loads(text)['programme']}.yaml": text for text in programmes}
    if segments is not None:
        files["flows/segments.yaml"] = segments
    for name, (head, body) in MAILS.items():
        column = f"<mj-section><mj-column><mj-text>{body}</mj-text></mj-column></mj-section>"
        files[f"templates/email/{name}.mjml"] = f"---\n{head}\nsubject: A {name}\npreheader: Look\n---\n{column}\n"
        files[f"templates/email/{name}.txt"] = f"{body}\n"
    return compile_files(files)


def documents(
    *flows: str,
    sources: tuple[str, ...] = (),
    programmes: tuple[str, ...] = (),
    segments: str | None = None,
    **shop: Any,
) -> tuple[Document, ...]:
    """The small shop's documents with these flows, sources of the shipped ones, programmes (JSON), a changed shop."""
    return _compiled(flows, json.dumps({**SHOP, **shop}), sources, programmes, segments)


def put_into_force(
    driver: Driver,
    *flows: str,
    sources: tuple[str, ...] = (),
    programmes: tuple[str, ...] = (),
    segments: str | None = None,
    **shop: Any,
) -> None:
    """Apply the small shop with these flows and no others."""
    with driver.app.writing() as connection:
        made = documents(*flows, sources=sources, programmes=programmes, segments=segments, **shop)
        catalog.apply(connection, made, now=driver.clock.now(), by="the tests")


@contextmanager
def small(
    database_url: str,
    *flows: str,
    sources: tuple[str, ...] = (),
    programmes: tuple[str, ...] = (),
    segments: str | None = None,
    shop: Mapping[str, Any] | None = None,
    email: Channel | None = None,
    **settings: object,
) -> Iterator[Driver]:
    """An installation with the small shop and these flows in force.

    Args:
      programmes: texts of programme files, as JSON.
      segments: text of segments.yaml.
      sources: names of shipped sources; few, because reading them takes longer than a test.
      shop: changes to shop.yaml.
      email: another channel than the outbox.
    """
    with driving(database_url, email=email, **settings) as driver:
        put_into_force(driver, *flows, sources=sources, programmes=programmes, segments=segments, **(shop or {}))
        yield driver
