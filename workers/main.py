"""`dramatiq workers.main:setup`: composes the application in each worker process, after the fork."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress

import dramatiq

from afterglow.errors import AfterglowError
from db.app import App, open_app, settle_memory
from db.catalog import NothingAppliedError
from db.settings import load_settings
from workers.actors import make_actors
from workers.logs import set_up_logs

#: How often a worker looks whether the process that started it still lives, in seconds; and how long it may then take
#: to end in good order, which is longer than any provider's deadline.
PARENT_S = 2.0
GOODBYE_S = 40.0


def setup() -> dramatiq.Broker:
    """Open the application of this process and declare its actors.

    Raises:
      SystemExit: with one sentence, where the settings, the database or the broker cannot be used.
    """
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent.pid,), name="parent", daemon=True).start()
    set_up_logs()
    try:
        app = open_app(load_settings())
    except AfterglowError as error:
        raise SystemExit(str(error)) from None
    make_actors(app).register()
    _read_files(app)
    dramatiq.set_broker(app.broker)
    settle_memory()
    return app.broker


def _read_files(app: App) -> None:
    """Read the files in force before the first batch does: its rows should not be in our hands meanwhile."""
    with suppress(NothingAppliedError), app.reading() as connection:
        app.catalog.current(connection)


def _end_with(parent: int | None) -> None:
    """End this process once its parent is gone: killed, it says no goodbye, and old code would work on for ever."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GOODBYE_S)  # where the parent was killed while we booted, the main thread waits for it for ever
    os.kill(os.getpid(), signal.SIGKILL)
