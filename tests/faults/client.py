"""A shop that posts signed webhooks as providers do: repeats, out of order, and again until they are answered 2xx.

Every 2xx is one line in a log ({"key", "at"}), written before the next one is posted: what the log has, we were
promised.
"""

import base64
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from afterglow.signatures import sign

SECRET = "whsec_" + base64.b64encode(b"the fault tests' webhook secret").decode()
#: More copies of one webhook than this never come.
COPIES_MAX = 8
#: How long the shop waits for an answer, and before it posts again, in seconds.
ANSWER_S_MAX = 5.0
AGAIN_S = (0.2, 1.5)
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True, order=True)
class Post:
    """One copy of one webhook: when it is posted, in seconds after the start."""

    at: float
    key: str
    body: bytes
    source: str = "generic"


def order_of(number: int) -> str:
    """The id of a customer's order."""
    return f"o{number}"


def planned(customers: int, *, seconds: float, chance: random.Random, names: Sequence[str] = ()) -> list[Post]:
    """Two webhooks for each customer, each in one to eight copies, spread over so many seconds.

    Args:
      names: first names of the first customers; all others are called Sam.
    """
    began = datetime.now(UTC) - timedelta(hours=1)
    posts: list[Post] = []
    for number in range(customers):
        customer = {"id": f"c{number}", "email": f"c{number}@example.com"}
        named = customer | {"first_name": names[number] if number < len(names) else "Sam"}
        order = {"id": order_of(number), "total": 30 if number % 2 else 50, "currency": "EUR"}
        paid_at = chance.uniform(0, seconds * 0.8)
        # Sometimes the parcel's webhook overtakes the order's.
        arrived_at = max(0.0, paid_at + chance.uniform(-1, 5))
        delivered = {"customer": customer, "order": {"id": order["id"]}}
        for event, at, data in (
            ("order.paid", paid_at, {"customer": named, "order": order, "consent": {"state": "granted"}}),
            ("order.delivered", arrived_at, delivered),
        ):
            happened = began + timedelta(seconds=paid_at + (event == "order.delivered"))
            body = json.dumps({"type": event, "timestamp": happened.isoformat(), "data": data}).encode()
            copies = 1
            while copies < COPIES_MAX and chance.random() < 0.5:
                copies += 1
            posts += [
                Post(at=at + copy * chance.uniform(0, 3), key=f"{event}/{order['id']}", body=body)
                for copy in range(copies)
            ]
    return posts


class Client:
    """Posts what is planned from several threads; `acknowledged` after `join` is what was answered 2xx."""

    def __init__(self, url: str, posts: Sequence[Post], log: Path, *, chance: random.Random, threads: int = 4) -> None:
        self.posts = len(posts)
        self._address = urlsplit(url).netloc
        self._left = list(posts)
        heapify(self._left)
        self._open = len(posts)
        self._lock = threading.Lock()
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._chance = chance
        self._began = 0.0
        self._given_up = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="shop", daemon=True) for _ in range(threads)]
        self.refusals: dict[str, int] = {}

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> int:
        """Wait until all is answered 2xx, at most so long; how many posts were not."""
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            time.sleep(0.1)
        self._given_up.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(ANSWER_S_MAX + 5)
        self._log.close()
        return self._open

    def _run(self) -> None:
        connection = HTTPConnection(self._address, timeout=ANSWER_S_MAX)
        while self._open and not self._given_up.is_set():
            post = self._next()
            if post is None:
                time.sleep(0.02)
                continue
            refusal = self._post(connection, post)
            if refusal is None:
                continue
            if not refusal.isdecimal():  # nothing was answered: the next request opens a new connection
                connection.close()
            self._later(post, refusal)
        connection.close()

    def _next(self) -> Post | None:
        with self._lock:
            if self._left and self._left[0].at <= time.monotonic() - self._began:
                return heappop(self._left)
            return None

    def _later(self, post: Post, refusal: str) -> None:
        with self._lock:
            self.refusals[refusal] = self.refusals.get(refusal, 0) + 1
            at = time.monotonic() - self._began + self._chance.uniform(*AGAIN_S)
            heappush(self._left, replace(post, at=at))

    def _post(self, connection: HTTPConnection, post: Post) -> str | None:
        """None where it was answered 2xx, which is then in the log."""
        headers = sign("standard_webhooks", SECRET, post.body, datetime.now(UTC), post.key)
        try:
            connection.request("POST", f"/hooks/{post.source}", post.body, headers | JSON)
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            return type(error).__name__
        if not 200 <= answer.status < 300:
            return str(answer.status)
        with self._lock:
            self._log.write(json.dumps({"key": post.key, "at": round(time.monotonic() - self._began, 3)}) + "\n")
            self._open -= 1
        return None
