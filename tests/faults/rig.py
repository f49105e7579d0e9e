"""An installation of real processes, and the nemesis that takes them away.

The servers are PostgreSQL (fsync on), Redis and an SMTP relay whose log is fsynced and which nobody kills. Every
process of ours stands in a group of its own, is killed as a whole (SIGKILL), and is started again by a keeper, as a
service manager would.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import sqlalchemy as sa

from afterglow import ROOT
from afterglow.language.catalog import compile_files
from db import catalog, schema
from db.engine import Database
from db.tables import enrollments, inbox, touchpoints
from tests.faults import client
from tests.faults.shop import files
from tests.ports import free_port
from tests.servers import Postgres, Redis, postgres, redis_server
from tests.smtp_sink import Relay, sink

WORKER = ("-m", "dramatiq", "tests.faults.entry:setup", "--processes", "1", "--threads", "4")
WEB = ("-m", "workers.cli", "web")
SCHEDULER = ("-m", "tests.faults.entry", "scheduler")
RUN = ("-m", "tests.faults.entry", "run")

#: How long any process may take until it works, on a busy machine, in seconds.
BOOT_S_MAX = 60.0
#: How long the keeper waits before it starts what has ended, in seconds.
KEEPER_S = 0.2
#: How long the nemesis waits for a worker that has mails in its hands before it takes an idle one, in seconds.
AIM_S_MAX = 15.0


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something.

    Raises:
      AssertionError: where it does not come in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} seconds"
        time.sleep(0.05)


class Process:
    """One process of ours, or a worker with its child, in a group of its own."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.notes = folder / f"{name}.notes"
        self.kills = 0
        self.starts = 0
        self.started_at = 0.0
        self.frozen = False
        self._words = [sys.executable, *words]
        self._environment = {**environment, "FAULTS_NOTES": str(self.notes)}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def start(self) -> None:
        """Start it, with nothing in its hands."""
        self.notes.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._groups.add(self._process.pid)
        self.starts += 1
        self.started_at = time.monotonic()

    @property
    def lives(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def held(self) -> list[set[int]]:
        """The batches of mails that it has in its hands, by what it wrote down."""
        held: list[set[int]] = []
        with suppress(FileNotFoundError):
            for line in self.notes.read_text().splitlines():
                note = json.loads(line)
                if "holds" in note:
                    held.append(set(note["holds"]))
                elif (gone := set(note["lets go"])) in held:  # else a child of its former life wrote this
                    held.remove(gone)
        return held

    def send(self, how: signal.Signals) -> None:
        """Send a signal to the whole group."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        self.frozen = how == signal.SIGSTOP

    def kill(self) -> None:
        """Kill it with all its children, at once."""
        if self._process is None:
            return
        self.send(signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def behead(self) -> None:
        """Kill the parent of a worker only; its child must find out by itself."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def orphans(self) -> set[int]:
        """The groups in which somebody lives although the first process of them does not."""
        first = self._process.pid if self._process is not None and self.lives else None
        self._groups = {group for group in self._groups if _lives(group)}
        return self._groups - {first}

    def end(self) -> None:
        """Kill all that was ever started."""
        self.kill()
        for group in self.orphans():
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    """Whether a process of this group lives; the dead may linger where nobody asks for their status."""
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError):
            os.killpg(group, 0)
            return True
        return False
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group, *_ = file.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                return True
    return False


class Keeper(threading.Thread):
    """Starts again whatever has ended, as a service manager does."""

    def __init__(self, processes: Sequence[Process]) -> None:
        super().__init__(name="keeper", daemon=True)
        self.processes = processes
        self.restarts = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(KEEPER_S):
            for process in self.processes:
                if not process.lives:
                    process.start()
                    self.restarts += 1

    def end(self) -> None:
        """Start nothing more."""
        self._ended.set()
        if self.is_alive():
            self.join()


@dataclass(kw_only=True)
class Rig:
    """An installation under test."""

    folder: Path
    database: Database
    relay: Relay
    environment: dict[str, str]
    url: str
    postgres: Postgres | None = None
    redis: Redis | None = None
    processes: list[Process] = field(default_factory=list)
    keeper: Keeper | None = None
    faults: Counter[str] = field(default_factory=Counter)
    clients: list[client.Client] = field(default_factory=list)

    def process(self, name: str, words: Sequence[str], **environment: str) -> Process:
        """Declare a process; whoever calls starts it."""
        made = Process(name, words, self.environment | environment, self.folder)
        self.processes.append(made)
        return made

    def keep(self) -> None:
        """From now on every declared process lives, or is started again."""
        self.keeper = Keeper(self.processes)
        self.keeper.start()

    def restart_database(self) -> None:
        """Stop PostgreSQL as a power cut would, and start it again."""
        assert self.postgres is not None
        self.postgres.stop_immediate()
        self.postgres.start()
        self.database.engine.dispose()

    def living(self, kind: str) -> list[Process]:
        """The processes of a kind that live."""
        return [process for process in self.processes if process.name.startswith(kind) and process.lives]

    def kills(self, kind: str) -> int:
        """How often processes of a kind ("worker", "web", ...) were killed."""
        return sum(process.kills for process in self.processes if process.name.startswith(kind))

    def until_ready(self) -> None:
        """Wait until the web answers."""

        def answers() -> bool:
            with suppress(OSError), urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
            return False

        until(answers, BOOT_S_MAX, "the web")

    def has_no_orphans(self) -> bool:
        """Whether every living process of ours has the parent that started it."""
        return not any(process.orphans() for process in self.processes)

    def client(self, posts: Sequence[client.Post], chance: random.Random) -> client.Client:
        """A shop that posts these, for as long as the installation stands."""
        made = client.Client(self.url, posts, self.acknowledged_log, chance=chance)
        self.clients.append(made)
        return made

    @property
    def acknowledged_log(self) -> Path:
        """Where the shop notes what it was promised."""
        return self.folder / "acknowledged.jsonl"

    def open_work(self) -> dict[str, int]:
        """How much is not at its end, by kind; nothing where all is done. Parked things are done."""
        queries = {
            "inbox": sa.select(sa.func.count()).where(inbox.c.state.in_(["received", "awaiting"])),
            "runs": sa.select(sa.func.count()).where(enrollments.c.state.in_(["waiting", "sending", "paused"])),
            "mails": sa.select(sa.func.count()).where(touchpoints.c.state.in_(["queued", "sending", "held"])),
        }
        with self.database.reading() as connection:
            found = {kind: connection.execute(query).scalar_one() for kind, query in queries.items()}
        return {kind: count for kind, count in found.items() if count}

    def until_done(self, seconds: float) -> float:
        """Wait until all work has come to its end; how many seconds that took.

        Raises:
          AssertionError: saying what is left.
        """
        began = time.monotonic()
        while left := self.open_work():
            assert time.monotonic() < began + seconds, f"after {seconds:g} seconds without faults: {left}"
            time.sleep(0.2)
        return time.monotonic() - began

    def mails(self, kind: str) -> set[int]:
        """The touchpoints of a kind."""
        with self.database.reading() as connection:
            return set(connection.execute(sa.select(touchpoints.c.id).where(touchpoints.c.kind == kind)).scalars())

    def fates(self, ids: set[int]) -> list[tuple[object, ...]]:
        """What became of these touchpoints, for comparing."""
        t = touchpoints.c
        query = sa.select(t.id, t.state, t.epoch, t.settled_at, t.reason, t.provider_id)
        with self.database.reading() as connection:
            return [tuple(row) for row in connection.execute(query.where(t.id.in_(ids)).order_by(t.id))]

    def in_doubt(self) -> set[int]:
        """The touchpoints of which nobody knows whether they arrived."""
        with self.database.reading() as connection:
            return set(
                connection.execute(sa.select(touchpoints.c.id).where(touchpoints.c.state == "in_doubt")).scalars()
            )

    def are_closed(self, ids: set[int]) -> bool:
        """Whether all these touchpoints have their fate."""
        return all(fate[1] not in ("queued", "sending") for fate in self.fates(ids))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end."""
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=BOOT_S_MAX,
            check=False,
        )


@contextmanager
def distributed(folder: Path, shop: Mapping[str, str] | None = None, **environment: str) -> Iterator[Rig]:
    """PostgreSQL and Redis of our own, a shop in force; processes are declared by the test."""
    with ExitStack() as stack:
        database_server = stack.enter_context(postgres(own=True, fsync=True))
        broker_server = stack.enter_context(redis_server(own=True))
        url = database_server.url
        schema.migrate(url)
        rig = stack.enter_context(_rig(folder, url, broker_server.url, environment))
        rig.postgres, rig.redis = database_server, broker_server
        with rig.database.writing() as connection:
            catalog.apply(connection, compile_files(shop or files()), now=datetime.now(UTC), by="the tests")
        yield rig


@contextmanager
def embedded(folder: Path, **environment: str) -> Iterator[Rig]:
    """SQLite; `run` itself makes the database and puts the shop's folder into force."""
    for path, text in files().items():
        file = folder / "shop" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    places = {"AFTERGLOW_SHOP_DIR": str(folder / "shop")}
    with _rig(folder, f"sqlite:///{folder}/afterglow.db", "", environment | places) as rig:
        yield rig


@contextmanager
def _rig(folder: Path, database_url: str, broker_url: str, further: Mapping[str, str]) -> Iterator[Rig]:
    public, private = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFTERGLOW_")}
    with ExitStack() as stack:
        relay = stack.enter_context(sink(log=folder / "accepts.jsonl"))
        environment |= {
            "PYTHONPATH": str(ROOT),
            "AFTERGLOW_DATABASE_URL": database_url,
            "AFTERGLOW_BROKER_URL": broker_url,
            "AFTERGLOW_SECRET": "a-secret-of-the-fault-tests",
            "AFTERGLOW_PUBLIC_BIND": f"127.0.0.1:{public}",
            "AFTERGLOW_PRIVATE_BIND": f"127.0.0.1:{private}",
            "AFTERGLOW_SMTP_URL": relay.url,
            "AFTERGLOW_LIVE": "yes",
            "AFTERGLOW_THREADS": "4",
            "GENERIC_WEBHOOK_SECRET": client.SECRET,
            "FAULTS_LEASE_S": "12",
            **further,
        }
        database = Database(database_url, pool_size=2)
        stack.callback(database.close)
        rig = Rig(
            folder=folder,
            database=database,
            relay=relay,
            environment=environment,
            url=f"http://127.0.0.1:{public}",
        )
        try:
            yield rig
        finally:
            if rig.keeper is not None:
                rig.keeper.end()
            for process in rig.processes:
                process.end()
            for shop in rig.clients:
                shop.join(0)
            if kept := os.environ.get("FAULTS_KEEP"):
                shutil.copytree(folder, kept, dirs_exist_ok=True)


@dataclass(frozen=True, kw_only=True, order=True)
class Fault:
    """Something that is done to an installation at a moment, in seconds after the start."""

    at: float
    what: str


def plan(
    chance: random.Random,
    *,
    seconds: float,
    kills: Mapping[str, int],
    beheadings: int = 0,
    flushes: int = 0,
    restarts: int = 0,
) -> list[Fault]:
    """A schedule of faults, spread over so many seconds.

    Args:
      kills: how many by kind of process.
      beheadings: of workers, whose child must end by itself.
      flushes: of Redis, evenly.
      restarts: of PostgreSQL.
    """
    killed = [f"kill {kind}" for kind, count in kills.items() for _ in range(count)] + ["behead worker"] * beheadings
    chance.shuffle(killed)
    each = seconds / max(1, len(killed))
    return sorted(
        [
            *(Fault(at=each * (n + chance.uniform(0.2, 1.0)), what=what) for n, what in enumerate(killed)),
            *(Fault(at=seconds * (n + 0.5) / flushes, what="flush") for n in range(flushes)),
            *(Fault(at=seconds * (n + chance.uniform(0.4, 0.8)) / restarts, what="restart") for n in range(restarts)),
        ]
    )


def _victim(rig: Rig, kind: str) -> Process | None:
    """Whom to kill: a worker with mails in its hands, soon; else who has worked longest and has most to lose.

    Where all were killed a moment ago it waits until one lives again.
    """
    deadline = time.monotonic() + AIM_S_MAX
    while time.monotonic() < deadline:
        living = rig.living(kind)
        victim = next((process for process in living if process.held()), None) if kind == "worker" else None
        if victim is not None or (living and kind != "worker"):
            return victim or min(living, key=lambda process: process.started_at)
        time.sleep(0.02)
    return min(rig.living(kind), key=lambda process: process.started_at, default=None)


def haunt(rig: Rig, faults: Sequence[Fault]) -> None:
    """Do all this to an installation whose keeper runs; `rig.faults` counts what really happened."""
    began = time.monotonic()
    for fault in faults:
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        match fault.what.split():
            case ["kill", kind]:
                if (victim := _victim(rig, kind)) is None:
                    continue
                victim.kill()
            case ["behead", kind]:
                rig.living(kind)[0].behead()
            case ["flush"]:
                assert rig.redis is not None
                rig.redis.flushall()
            case ["restart"]:
                rig.restart_database()
        rig.faults[fault.what] += 1
