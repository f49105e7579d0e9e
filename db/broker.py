"""Dramatiq carries hints. A message says only "there may be due work of this kind"; the database knows the work.

So a hint may be lost, doubled, late or delivered to a process that is about to die, and nothing happens but a little
delay until the scheduler's next tick. `hint()` therefore never blocks its caller, never raises, and is dropped where
enough hints of its kind are waiting already.
"""

import threading
from collections import deque
from typing import Any

import dramatiq
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis
from dramatiq.message import Message
from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from afterglow.errors import AfterglowError

log = structlog.get_logger()

#: The kinds of work there are; each is an actor and a queue of the same name.
KINDS = ("ingest", "advance", "deliver", "tend")

#: An idle consumer looks for a message at least this often, in milliseconds.
POLL_MS_MAX = 20
#: An unreachable broker may cost a hint at most this long, in seconds, in the hinting thread.
BROKER_TIMEOUT_S = 0.1
#: Letters kept by the in-process broker, for a look with a debugger; older ones are dropped.
DEAD_LETTERS_MAX = 50


class BrokerUnavailableError(AfterglowError):
    """The broker cannot be reached."""


class EmbeddedBroker(StubBroker):
    """Dramatiq's in-process broker, with a bounded number of dead letters."""

    def declare_queue(self, queue_name: str) -> None:
        super().declare_queue(queue_name)
        if not isinstance(self.dead_letters_by_queue[queue_name], deque):
            self.dead_letters_by_queue[queue_name] = deque(maxlen=DEAD_LETTERS_MAX)  # type: ignore[assignment]


class HintBroker(RedisBroker):
    """Dramatiq's Redis broker, looking for messages often: its default makes three hops take seconds."""

    def get_declared_delay_queues(self) -> set[str]:
        """None: no message of ours is ever delayed, and each would cost a thread and its looking."""
        return set()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        return super().consume(queue_name, prefetch, min(timeout, POLL_MS_MAX))


def make_broker(url: str) -> dramatiq.Broker:
    """The broker for this process: Redis at `url`, or in this process where `url` is empty.

    The middleware list is empty on purpose. Retries, age limits and time limits would make messages mean something,
    and TimeLimit raises into code that may be between a provider's answer and our commit.
    """
    broker: dramatiq.Broker
    if url:
        pool = ConnectionPool.from_url(url, socket_connect_timeout=2, socket_timeout=5)
        # Defaults find a dead worker's messages after minutes; hints are cheap, so look often.
        broker = HintBroker(  # type: ignore[no-untyped-call]
            client=Redis(connection_pool=pool),
            middleware=[],
            namespace="afterglow",
            maintenance_chance=10_000,
            heartbeat_timeout=15_000,
        )
    else:
        broker = EmbeddedBroker(middleware=[])
    for kind in KINDS:
        broker.declare_queue(kind)
    return broker


def check_broker(broker: dramatiq.Broker) -> None:
    """Make sure that the broker answers.

    Raises:
      BrokerUnavailableError: saying what to do.
    """
    if isinstance(broker, RedisBroker):
        try:
            broker.client.ping()
        except RedisError as error:
            reason = " ".join(str(error).split())[:200]
            raise BrokerUnavailableError(
                f"Redis cannot be reached ({reason}); start it or correct AFTERGLOW_BROKER_URL."
            ) from None


class Hints:
    """Sends hints from a thread of its own.

    Hints of one kind that wait to be sent are one hint: a busy caller costs the broker no more than a quiet one.
    """

    def __init__(self, broker: dramatiq.Broker, *, threads: int, url: str = "") -> None:
        self.broker = broker
        self._queued_max = 2 * threads
        self._counter = (
            Redis.from_url(url, socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S)
            if url
            else None
        )
        self._sender = _sender(url) if url else broker
        self._wanted: dict[str, None] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def hint(self, *kinds: str) -> None:
        """Say that there may be due work of these kinds. Returns at once and never raises."""
        if self._counter is None:  # in process: nothing can block
            for kind in kinds:
                self._send(kind)
            return
        with self._wake:
            for kind in kinds:
                self._wanted[kind] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Stop the sending thread; hints not yet sent are dropped, which does no harm."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=2)
        if self._counter is not None:
            self._counter.close()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._wanted and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                kinds, self._wanted = list(self._wanted), {}
            for kind in kinds:
                self._send(kind)

    def _send(self, kind: str) -> None:
        try:
            if self._waiting(kind) < self._queued_max:
                self._sender.enqueue(_message(kind))
        except (RedisError, dramatiq.DramatiqError, OSError) as error:
            log.warning("hint dropped", kind=kind, error=type(error).__name__)

    def _waiting(self, kind: str) -> int:
        if self._counter is not None:
            return int(self._counter.llen(f"afterglow:{kind}"))
        queue: Any = self.broker.queues[kind]
        return int(queue.qsize())


def _sender(url: str) -> dramatiq.Broker:
    """A second broker on the same Redis with short timeouts, for sending only."""
    client: Any = Redis.from_url(url, socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S)
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        client=client, middleware=[], namespace="afterglow"
    )
    for kind in KINDS:
        broker.declare_queue(kind)
    return broker


def _message(kind: str) -> Message[None]:
    return Message(queue_name=kind, actor_name=kind, args=(), kwargs={}, options={}, message_timestamp=current_millis())
