"""The demo's own installation: one process, a throwaway database, a clock that jumps; nothing leaves the machine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from db.app import App, open_app
from db.clock import JumpingClock
from db.schema import migrate
from db.settings import Settings
from workers.applying import apply_folder
from workers.demo.clockwork import HeldHints
from workers.demo.lives import start_of
from workers.demo.posting import DemoError, secrets_of_the_run
from workers.embedded import Embedded, only_process
from workers.files import find_shop_folder

#: The clockwork gives one hint at a time, so more threads would only wait.
THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What the demo runs on."""

    app: App
    clock: JumpingClock
    hints: HeldHints
    embedded: Embedded
    #: The secret of each source.
    secrets: dict[str, str]


@contextmanager
def installation(
    *, keep: Path | None = None, port: int = 0, shop_dir: str = "", durable: bool = False
) -> Iterator[Installation]:
    """Make it, start it, and take it down again.

    Args:
      keep: where the database is to stay; a temporary folder otherwise.
      port: of the public face; the private one takes the next. 0: any that are free.
      shop_dir: as AFTERGLOW_SHOP_DIR.

    Raises:
      AfterglowError: the file is there already, a port is taken, the shop's files are wrong.
    """
    with TemporaryDirectory(prefix="afterglow-demo-") as folder, secrets_of_the_run() as made:
        file = keep or Path(folder) / "demo.db"
        if keep is not None and keep.exists():
            raise DemoError(f"{keep} is there already; name another file, or remove it.")
        settings = _settings(file, port, shop_dir)
        with only_process(file):
            migrate(settings.database_url)
            clock = JumpingClock(start_of())
            # The file is thrown away, or can be made again: nothing is lost if the machine stops within a commit.
            app = open_app(settings, clock=clock, durable=durable)
            try:
                hints = HeldHints(app.broker, threads=settings.threads)
                app = replace(app, hints=hints)
                apply_folder(app.database, clock, find_shop_folder(shop_dir), by="demo")
                embedded = Embedded(app=app, ticks=False)
                try:
                    embedded.start()
                    yield Installation(app=app, clock=clock, hints=hints, embedded=embedded, secrets=dict(made))
                finally:
                    embedded.stop()
            finally:
                app.close()


def _settings(file: Path, port: int, shop_dir: str) -> Settings:
    """The embedded defaults, whatever the environment says: a demo must never reach a real database or relay."""
    public, private = (port, port + 1) if port else _free_ports()
    return Settings(
        _env_file=None,
        database_url=f"sqlite:///{file}",
        broker_url="",
        secret=secrets.token_urlsafe(32),
        key="",
        public_bind=f"127.0.0.1:{public}",
        private_bind=f"127.0.0.1:{private}",
        public_url=f"http://127.0.0.1:{public}",
        shop_dir=shop_dir,
        smtp_url="",
        live="no",
        allow="",
        threads=THREADS,
        keep_webhooks_days=30,
    )


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on: links in mails name them, so they must be known before anything listens."""
    import socket

    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
