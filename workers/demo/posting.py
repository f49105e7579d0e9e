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
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

from afterglow.errors import AfterglowError
from afterglow.signatures import sign
from workers.demo.payloads import API_VERSION
from workers.demo.story import Delivery

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a request was answered."""

    status: int
    text: str
    location: str


class Poster:
    """Whoever speaks to the public face from outside: the providers, and people with a mail in their hands.

    The standard library's client over one kept connection: it costs a quarter of what httpx costs here, and there is
    nothing to retry or to follow.
    """

    def __init__(self, public_url: str, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets
        self._connection = HTTPConnection(urlsplit(public_url).netloc, timeout=60)
        #: How many answers of each kind there were: ("shopify", 202), ("link", 200).
        self.answers: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def deliver(self, delivery: Delivery, now: datetime) -> None:
        """Post one webhook and have it accepted.

        Raises:
          DemoError: when it is not, saying how it was answered.
        """
        source, topic = delivery.source, delivery.topic
        scheme, _ = SOURCES[source]
        headers = sign(scheme, self._secrets[source], delivery.body, now, delivery.id)
        if source == "shopify":
            headers |= {
                "x-shopify-topic": topic,
                "x-shopify-shop-domain": "ember-oak.myshopify.example",
                "x-shopify-api-version": API_VERSION,
                "x-shopify-triggered-at": delivery.triggered_at.isoformat(),
            }
        headers["content-type"] = "application/json"
        answer = self._ask("POST", f"/hooks/{source}", delivery.body, headers, counted=source)
        if answer.status != 202:
            raise DemoError(f"The webhook {topic} of {source} was answered {answer.status}: {answer.text[:200]}")

    def rate(self, url: str, score: int) -> None:
        """Open the page behind a score in a mail, and press its button."""
        self._ask("GET", _path(url))
        self._press(url, {"score": str(score)})

    def unsubscribe(self, url: str) -> None:
        """What a mail program posts by itself (RFC 8058)."""
        self._press(url, {"List-Unsubscribe": "One-Click"})

    def follow(self, url: str) -> str:
        """Follow a friend's link; the address of the shop to which it leads."""
        return self._ask("GET", _path(url)).location

    def _press(self, url: str, form: Mapping[str, str]) -> None:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = self._ask("POST", _path(url), urlencode(form).encode(), headers)
        if answer.status != 200:
            raise DemoError(f"A link in a mail was answered {answer.status}; the web's log may say why.")

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        counted: str = "link",
    ) -> Answer:
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            text = response.read().decode(errors="replace")
        except OSError as error:
            raise DemoError(f"The web process does not answer ({error}); the demo cannot go on.") from None
        self.answers[counted, response.status] += 1
        return Answer(status=response.status, text=text, location=response.headers.get("location", ""))


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
