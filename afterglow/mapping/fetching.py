"""What a source has to fetch before an element can be mapped, found by mapping it with what is there.

The rules run over the documents that are known. The first that they read and that nobody settled yet stops them: it is
asked for, and later they run again. So nothing is fetched that the rule which applies does not read, and documents
that hang on each other come one after the other.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from afterglow.expressions import MISSING
from afterglow.language.fetch import Fetch, FetchedDocument, part_of, url_of
from afterglow.language.source import Source
from afterglow.language.value import Value
from afterglow.mapping.facts import Unmappable
from afterglow.mapping.values import Facts

Outcome = TypeVar("Outcome")
#: What may stand in a reason: a number or a code, never an address.
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lacking:
    """An element cannot be mapped before this document is fetched."""

    name: str
    #: May hold an address: for the provider, and for nobody else.
    url: str = field(repr=False)


class _NotThere(Exception):
    """An expression read a document that nobody settled yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Documents(dict[str, object]):
    """The settled documents: fetched, none (the provider has none any more) or missing (nothing asks for it)."""

    def __init__(self, known: Mapping[str, object]) -> None:
        super().__init__(known)
        self.gone: dict[str, None] = {}

    def get(self, name: str, instead: object = None) -> object:
        if name not in self:
            raise _NotThere(name)
        found = self[name]
        if found is None:
            self.gone[name] = None
        return found


def with_documents(
    source: Source, fetch: Fetch, facts: Facts, known: Mapping[str, object], by_rules: Callable[[], Outcome]
) -> Outcome | Lacking:
    """What the rules make of the facts and the documents that are known; or the document to fetch first.

    Args:
      known: documents by name; None for one that the provider does not have.
      by_rules: maps by `facts`, to which the documents are added.

    Raises:
      Unmappable: as `by_rules`; where it read a document that is gone, the reason says so.
    """
    documents = _Documents(known)
    facts["fetched"] = documents
    while True:  # each turn settles one document or ends
        try:
            return by_rules()
        except _NotThere as absent:
            if (lacking := _lacking(fetch, absent.name, facts, documents)) is not None:
                return lacking
        except Unmappable as error:
            raise Unmappable(" ".join([str(error), *_gone(source, fetch, facts, documents)])) from None


def _lacking(fetch: Fetch, name: str, facts: Facts, documents: _Documents) -> Lacking | None:
    """The document to ask for, perhaps an earlier one that its path reads; None: this one is settled as missing."""
    wanted = fetch.document(name)
    try:
        url = None if wanted is None else _url(fetch, wanted, facts)
    except _NotThere as earlier:
        return _lacking(fetch, earlier.name, facts, documents)
    if url is None:
        documents[name] = MISSING
        return None
    return Lacking(name=name, url=url)


def _url(fetch: Fetch, wanted: FetchedDocument, facts: Facts) -> str | None:
    if wanted.when is not None and not wanted.when.expression.is_true(facts):
        return None
    return url_of(fetch.base, wanted.path, facts)


def _gone(source: Source, fetch: Fetch, facts: Facts, documents: _Documents) -> list[str]:
    settled = {**facts, "fetched": dict(documents)}  # nothing is asked for any more
    told = []
    for name in documents.gone:
        wanted = fetch.document(name)
        places = [part for part in wanted.path if isinstance(part, Value)] if wanted else []
        ids = [text for place in places[:1] if (text := part_of(place, settled)) and _ID.fullmatch(text)]
        told.append(f"The source '{source.name}' has no {' '.join([name, *ids])} any more.")
    return told
