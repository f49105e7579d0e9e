"""`run` (everything in one process); `web`, `worker`, `scheduler` (any number of each); `migrate`."""

import os
import signal
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from db.app import App
    from db.settings import Settings
    from workers.embedded import Embedded


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(run)
    main.command()(web)
    main.command()(worker)
    main.command()(scheduler)
    main.command()(migrate)


def run() -> None:
    """Run everything in one process.

    Web, workers and scheduler; it puts the shop's files into force first. A new SQLite database is made where there
    is none. Stop it with Ctrl-C or SIGTERM; even a kill -9 loses nothing.
    """
    from db.settings import load_settings
    from workers.commands.opening import is_missing, sqlite_file
    from workers.embedded import only_process

    settings = load_settings()
    if settings.broker_url:
        _refuse(
            "AFTERGLOW_BROKER_URL is set, so the work is shared by processes: start `afterglow web`, "
            "`afterglow worker` and `afterglow scheduler`, or unset it."
        )
    _ = settings.secrets  # says what to do where there is none
    file = sqlite_file(settings.database_url)
    with only_process(file) if file else nullcontext():
        if is_missing(settings.database_url):
            from db.schema import migrate as make

            make(settings.database_url)
        _run(settings)


def _run(settings: "Settings") -> None:
    from db.app import open_app, settle_memory
    from workers.applying import apply_folder
    from workers.commands.files import say_applied
    from workers.commands.opening import me
    from workers.embedded import Embedded
    from workers.files import find_shop_folder
    from workers.logs import set_up_logs

    set_up_logs()
    app = open_app(settings)
    try:
        say_applied(
            apply_folder(app.database, app.clock, find_shop_folder(settings.shop_dir), by=me(), commit=settings.commit)
        )
        embedded = Embedded(app=app)
        _on_signals(embedded.ended.set)
        try:
            embedded.start()
            settle_memory()
            _say_started(embedded, settings)
            embedded.ended.wait()
        finally:
            embedded.stop()
        if embedded.failure is not None:
            raise embedded.failure
    finally:
        app.close()


def _say_started(embedded: "Embedded", settings: "Settings") -> None:
    from workers.commands.console import say, say_lines, say_next

    say("Afterglow runs.", style="bold")
    say_lines([f"  public   {embedded.public_url}", f"  private  {embedded.private_url}"])
    if not settings.smtp_url.get_secret_value():
        say("Mails stay in the outbox; nothing leaves this machine.")
    elif settings.live != "yes":
        say("Not live: only the addresses of AFTERGLOW_ALLOW get mail.")
    say_next(
        ("afterglow event customer.created --customer you@example.com", "something happens"),
        ("afterglow why you@example.com", "what came of it"),
        ("Ctrl-C", "stop"),
    )


def web(
    shared: Annotated[bool, typer.Option("--shared", help="Let several on this machine share the same ports.")] = False,
) -> None:
    """Serve the web: one process of many.

    Two faces: hooks and the links in mails; pages, API and metrics.
    """
    from db.app import settle_memory
    from web.serve import serve

    app = _opened()
    settle_memory()
    try:
        serve(app, shared=shared)
    finally:
        app.close()


def worker(
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes; as many as there are cores.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Threads of each; AFTERGLOW_THREADS.")] = None,
) -> None:
    """Work: the same as `dramatiq workers.main:setup`."""
    app = _opened()
    threads = threads or app.settings.threads
    app.close()
    words = [sys.executable, "-m", "dramatiq", "workers.main:setup", "--threads", str(threads)]
    if processes is not None:
        words += ["--processes", str(processes)]
    os.environ["AFTERGLOW_THREADS"] = str(threads)
    sys.stdout.flush()
    os.execv(sys.executable, words)


def scheduler() -> None:
    """Look where work is due, and hint.

    Any number may run; all are equal.
    """
    from workers.scheduler import Scheduler

    app = _opened()
    clockwork = Scheduler(app)
    _on_signals(clockwork.stop)
    try:
        clockwork.run()
    finally:
        app.close()


def migrate() -> None:
    """Bring the database up to this release.

    It takes a lock, and gives up rather than hold others up for long.
    """
    from db.engine import Database
    from db.schema import check_schema
    from db.schema import migrate as make
    from db.settings import load_settings
    from workers.commands.console import say, say_next
    from workers.commands.opening import is_missing

    settings = load_settings()
    database = Database(settings.database_url, pool_size=1)
    try:
        if not is_missing(settings.database_url):
            database.check()
        make(settings.database_url)
        check_schema(database)
    finally:
        database.close()
    say(f"The database {database.url.render_as_string(hide_password=True)} is up to this release.")
    say_next(("afterglow apply", "put the shop's files into force"))


def _opened() -> "App":
    """The application of one process among many.

    Raises:
      AfterglowError: with one sentence, where it cannot be used.
    """
    from db.app import open_app
    from db.settings import load_settings
    from workers.logs import set_up_logs

    settings = load_settings()
    if settings.embedded or settings.database_url.startswith("sqlite"):
        _refuse(
            "Several processes need PostgreSQL and Redis: set AFTERGLOW_DATABASE_URL and AFTERGLOW_BROKER_URL, "
            "or use `afterglow run`, which is one process and needs neither."
        )
    _ = settings.secrets  # says what to do where there is none
    set_up_logs()
    return open_app(settings)


def _refuse(told: str) -> None:
    from db.settings import SettingsError

    raise SettingsError(told)


def _on_signals(stop: "Callable[[], None]") -> None:
    """Stop cleanly when asked to; at once when asked again, which loses nothing either."""
    asked = threading.Event()

    def handle(number: int, frame: "FrameType | None") -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
