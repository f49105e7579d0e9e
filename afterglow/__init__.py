"""Afterglow's pure core: the language, the decisions, the money. No I/O, no clock, no randomness."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
_BUNDLED = _HERE / "_bundled"

#: Where flows/, templates/ and alembic.ini stand: beside us in a clone, inside us in a wheel.
ROOT = _BUNDLED if _BUNDLED.is_dir() else _HERE.parent
