"""Posting as the providers do: signed, over HTTP, to the running web process; and what people do with links.

The secrets are made for one run. They stand in the environment of this process alone, where the web process looks
for the secrets of its sources, and are taken out again at the end.
"""

import base64
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx

from afterglow.errors import AfterglowError
from afterglow.signatures import sign
from workers.demo.lives import Delivery
from workers.demo.payloads import API_VERSION

#: source -> (signature scheme, the variable that holds its secret), as in the sample shop's flows/sources/.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "shopify": ("shopify", "SHOPIFY_WEBHOOK_SECRET"),
    "stripe": ("stripe", "STRIPE_WEBHOOK_SECRET"),
    "generic": ("standard_webhooks", "GENERIC_WEBHOOK_SECRET"),
}


class DemoError(AfterglowError):
    """The demo cannot go on."""


@contextmanager
def secrets_of_the_run() -> Iterator[Mapping[str, str]]:
    """A new secret for each source, by the name of the source."""
    made = {
        "shopify": secrets.token_hex(32),
        "stripe": f"whsec_{secrets.token_hex(16)}",
        "generic": f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}",
    }
    before = {variable: os.environ.get(variable) for _, variable in SOURCES.values()}
    try:
        os.environ.update({variable: made[source] for source, (_, variable) in SOURCES.items()})
        yield made
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


class Poster:
    """Whoever speaks to the public face from outside: the providers, and people with a mail in their hands."""

    def __init__(self, public_url: str, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets
        self._client = httpx.Client(base_url=public_url, timeout=30, trust_env=False)
        #: How many answers of each kind there were: ("shopify", 202), ("link", 200).
        self.answers: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def deliver(self, delivery: Delivery, now: datetime) -> None:
        """Post one webhook and have it accepted.

        Raises:
          DemoError: when it is not, saying how it was answered.
        """
        scheme, _ = SOURCES[delivery.source]
        headers = sign(scheme, self._secrets[delivery.source], delivery.body, now, delivery.id)
        if delivery.source == "shopify":
            headers |= {
                "x-shopify-topic": delivery.topic,
                "x-shopify-shop-domain": "ember-oak.myshopify.example",
                "x-shopify-api-version": API_VERSION,
                "x-shopify-triggered-at": delivery.triggered_at.isoformat(),
            }
        headers["content-type"] = "application/json"
        answer = self._client.post(f"/hooks/{delivery.source}", content=delivery.body, headers=headers)
        self.answers[delivery.source, answer.status_code] += 1
        if answer.status_code != 202:
            raise DemoError(
                f"The webhook {delivery.topic} of {delivery.source} was answered {answer.status_code}: {answer.text[:200]}"
            )

    def rate(self, url: str, score: int) -> None:
        """Open the page behind a score in a mail, and press its button."""
        self._client.get(_path(url))
        self._pressed(url, {"score": str(score)})

    def unsubscribe(self, url: str) -> None:
        """What a mail program posts by itself (RFC 8058)."""
        self._pressed(url, {"List-Unsubscribe": "One-Click"})

    def follow(self, url: str) -> str:
        """Follow a friend's link; the address of the shop to which it leads."""
        answer = self._client.get(_path(url))
        self.answers["link", answer.status_code] += 1
        return answer.headers.get("location", "")

    def _pressed(self, url: str, form: Mapping[str, str]) -> None:
        answer = self._client.post(_path(url), data=form)
        self.answers["link", answer.status_code] += 1
        if answer.status_code != 200:
            raise DemoError(f"A link of a mail was answered {answer.status_code}: {_path(url).partition('/')[0]}")


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
