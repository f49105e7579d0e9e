"""Logs: an event name and fields, one JSON object a line, or words on a terminal. No addresses and no bodies."""

import logging
import os
import sys

import structlog


def set_up_logs(*, level: int = logging.INFO) -> None:
    """Send our logs and the libraries' to standard error."""
    terminal = sys.stderr.isatty()
    # Plain tracebacks: the pretty ones show local variables, which hold personal data, and take seconds.
    console = structlog.dev.ConsoleRenderer(
        colors=not os.environ.get("NO_COLOR"), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            console if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s", force=True
    )
