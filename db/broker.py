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
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis
from dramatiq.message import Message
from redis import Redis
from redis.exceptions import RedisError

from afterglow.errors import AfterglowError

log = structlog.get_logger()

#: The kinds of work there are; each is an actor and a queue of the same name.
KINDS = ("ingest", "advance", "deliver", "fetch", "coupons", "segments", "tend")

#: A consumer waits for a hint so long before it looks whether it should stop, in seconds.
LISTEN_S = 1
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


class HintBroker(dramatiq.Broker):
    """Hints in Redis: a plain list for each kind, which consumers wait at until something comes.

    Dramatiq's own RedisBroker keeps what it hands out until it is acknowledged, finds dead consumers, and for that
    looks again and again (a sixth of a core for two idle workers). A hint needs none of it: whoever takes one may die,
    and the scheduler hints again. What stands in the list does not matter either; each entry is one hint.
    """

    def __init__(self, client: Redis) -> None:
        super().__init__(middleware=[])
        self.client = client

    def declare_queue(self, queue_name: str) -> None:
        """Know a kind of work."""
        self.queues[queue_name] = None

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Wait for hints of a kind."""
        return _Ear(self.client, queue_name, prefetch)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Add a hint; there is none for later."""
        self.client.lpush(key_of(message.queue_name), message.actor_name)
        return message

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()


class _Ear(dramatiq.Consumer):
    """Waits for the hints of one kind."""

    def __init__(self, client: Redis, kind: str, most: int) -> None:
        self._client, self._kind = client, kind
        self._room = threading.Semaphore(most)  # hints that are taken and not yet worked on

    def __next__(self) -> dramatiq.MessageProxy | None:
        if not self._room.acquire(timeout=LISTEN_S):
            return None
        taken = None
        try:
            taken = self._client.brpop([key_of(self._kind)], timeout=LISTEN_S)
        except RedisError as error:
            raise dramatiq.ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        finally:
            if taken is None:
                self._room.release()
        return None if taken is None else dramatiq.MessageProxy(_message(self._kind))

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Worked on."""
        self._room.release()

    nack = ack


def key_of(kind: str) -> str:
    """The list that holds the hints of a kind."""
    return f"afterglow:{kind}"


def make_broker(url: str) -> dramatiq.Broker:
    """The broker for this process: Redis at `url`, or in this process where `url` is empty.

    The middleware list is empty on purpose. Retries, age limits and time limits would make messages mean something,
    and TimeLimit raises into code that may be between a provider's answer and our commit.
    """
    broker: dramatiq.Broker
    if url:
        broker = HintBroker(Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5))
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
    if isinstance(broker, HintBroker):
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
        # Connections of its own, with short timeouts.
        self._redis = (
            Redis.from_url(url, socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S)
            if url
            else None
        )
        self._sender = HintBroker(self._redis) if self._redis is not None else broker
        self._wanted: dict[str, None] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def hint(self, *kinds: str) -> None:
        """Say that there may be due work of these kinds. Returns at once and never raises."""
        if self._redis is None:  # in process: nothing can block
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
        if self._redis is not None:
            self._redis.close()

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
        if self._redis is not None:
            return int(self._redis.llen(key_of(kind)))
        queue: Any = self.broker.queues[kind]
        return int(queue.qsize())


def _message(kind: str) -> Message[None]:
    return Message(queue_name=kind, actor_name=kind, args=(), kwargs={}, options={}, message_timestamp=current_millis())
