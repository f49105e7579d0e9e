"""`dramatiq workers.main:setup`: composes the application in each worker process, after the fork."""

import dramatiq

from afterglow.errors import AfterglowError
from db.app import open_app, settle_memory
from db.settings import load_settings
from workers.actors import make_actors
from workers.logs import set_up_logs


def setup() -> dramatiq.Broker:
    """Open the application of this process and declare its actors.

    Raises:
      SystemExit: with one sentence, where the settings, the database or the broker cannot be used.
    """
    set_up_logs()
    try:
        app = open_app(load_settings())
    except AfterglowError as error:
        raise SystemExit(str(error)) from None
    make_actors(app).register()
    dramatiq.set_broker(app.broker)
    settle_memory()
    return app.broker
