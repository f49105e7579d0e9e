"""Strict YAML: what the marketer wrote is what is read, and every mistake has a place.

`load` reads a file into plain data with positions; `validated` checks it against a model.
"""

from afterglow.strict_yaml.document import Document, load
from afterglow.strict_yaml.models import validated

__all__ = ["Document", "load", "validated"]
