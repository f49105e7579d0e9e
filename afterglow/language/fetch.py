"""What a source file says about documents that its webhooks leave out: `fetch`.

    fetch:
      base: https://api.hubapi.com
      token: HUBSPOT_TOKEN
      rate: {at_most: 10, within: 1 second}
      documents:
        - name: contact
          path: /crm/v3/objects/contacts/{{ body.objectId }}?properties=email,firstname

Rules then read `fetched.contact.properties.email`. A document is asked for only where the rule that would apply reads
it; one that the provider does not have (404, 410) is none, one that nothing asks for is missing. The documents are
GETs below `base` and nowhere else: what a webhook says fills places between slashes, percent-encoded, and can neither
change the host nor climb out of a path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema, field_validator

from afterglow.durations import shared_out
from afterglow.expressions import ExpressionError
from afterglow.language.value import Value, read_value

#: The most documents that one element may need.
DOCUMENTS_MAX: Final = 8
#: Longer values are no ids.
LONGEST_VALUE: Final = 200
TOKEN: Final = "{token}"

_HOST: Final = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
_BASE: Final = re.compile(rf"https://(?P<host>{_HOST})(?::\d{{1,5}})?(?:/[A-Za-z0-9._~-]+)*")
_LOCAL: Final = re.compile(r"http://(?:127\.0\.0\.1|localhost)(?::\d{1,5})?(?:/[A-Za-z0-9._~-]+)*")
_INNER_NAMES: Final = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home.arpa", ".test", ".invalid")
_WRITTEN: Final = re.compile(r"[A-Za-z0-9._~/?&=%,:@!$'()*+;-]*")
_PLACE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*: [!-~ ]*\{token\}[!-~ ]*")
_SHORT: Final = re.compile(r"\s*(\d{1,6})\s+(second|minute|hour)s?\s*", re.ASCII)
_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True)
class _Bounds:
    least: timedelta
    most: timedelta

    def __call__(self, written: object) -> timedelta:
        if isinstance(written, timedelta):
            return written
        found = _SHORT.fullmatch(written) if isinstance(written, str) else None
        if found is None:
            raise ValueError(f"'{written}' is not a short time: write a number and a unit, such as '10 seconds'.")
        length = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
        if not self.least <= length <= self.most:
            raise ValueError(
                f"'{written}' must be from {self.least.total_seconds():g} to {self.most.total_seconds():g} seconds."
            )
        return length


def _short(least_s: int, most_s: int) -> Any:
    bounds = _Bounds(timedelta(seconds=least_s), timedelta(seconds=most_s))
    return Annotated[timedelta, PlainValidator(bounds), WithJsonSchema({"type": "string"})]


def _read_path(written: object) -> list[str | Value]:
    """The path of a document: text, and expressions between double braces."""
    if isinstance(written, list):
        return written
    if not isinstance(written, str) or not written.startswith("/"):
        raise ValueError("A path begins with a slash, such as /crm/v3/objects/deals/{{ body.objectId }}.")
    parts: list[str | Value] = []
    end = 0
    for found in _PLACE.finditer(written):
        parts.append(written[end : found.start()])
        parts.append(_expression(written, found))
        end = found.end()
    parts.append(written[end:])
    plain = "".join(part for part in parts if isinstance(part, str))
    if not _WRITTEN.fullmatch(plain):
        raise ValueError("A path may hold letters, digits and the signs of a URL; expressions stand in {{ }}.")
    if ".." in plain or plain.startswith("//"):
        raise ValueError("A path stays below its base: it may hold neither '..' nor begin with '//'.")
    return [part for part in parts if part != ""]


def _expression(written: str, found: "re.Match[str]") -> Value:
    inner = found[1]
    start = found.start(1) + len(inner) - len(inner.lstrip())
    try:
        return read_value(inner.strip())
    except ExpressionError as error:
        line = written.count("\n", 0, start)
        before = start - (written.rfind("\n", 0, start) + 1) if error.line == 1 else 0
        raise ExpressionError(error.message, line + error.line, before + error.col) from None


def _read_condition(written: object) -> Value | None:
    return None if written is None else read_value(written)


_Condition = Annotated[
    Value | None, PlainValidator(_read_condition), WithJsonSchema({"type": ["string", "boolean", "number"]})
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def outside(what: str, url: str) -> str:
    """The address of somebody outside: https to a host's name. This machine passes too; a setting of tests decides.

    Raises:
      ValueError: it is none, in one sentence.
    """
    found = _BASE.fullmatch(url)
    if found is None and not _LOCAL.fullmatch(url):
        raise ValueError(f"The {what} is https and a host's name, such as https://api.example.com, and no address.")
    if found is not None and found["host"].endswith(_INNER_NAMES):
        raise ValueError(f"The host {found['host']} belongs to a private network; the {what} lies outside.")
    return url


class FetchRate(_Model):
    """How many requests the provider allows, shared by all workers."""

    at_most: int = Field(ge=1, le=1000, description="Requests ...")
    within: _short(1, 3600) = Field(description="... in any time of this length, such as 1 second.")  # type: ignore[valid-type]

    @property
    def lateness(self) -> timedelta:
        """How late a request may go after its turn; later, it needs another one."""
        lateness: timedelta = self.within / 5
        return lateness

    @property
    def spacing(self) -> timedelta:
        """From one turn to the next, in whole microseconds, rounded up.

        A little wider than the rate, so that turns used at once and turns used late make no window too full: `at_most`
        turns last `within` and the lateness.
        """
        return shared_out(self.within + self.lateness, self.at_most)


class FetchedDocument(_Model):
    """One document that rules read as `fetched.NAME`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        description="Rules read it as fetched.NAME."
    )
    when: _Condition = Field(default=None, description="Holds where there is such a document; elsewhere it is missing.")
    path: Annotated[
        list[str | Value], PlainValidator(_read_path), WithJsonSchema({"type": "string", "pattern": "^/"})
    ] = Field(description="Below the base, with expressions in {{ }}: /contacts/{{ body.objectId }}?properties=email.")


class Fetch(_Model):
    """Documents of the provider's API that webhooks leave out."""

    base: str = Field(description="Where the API is: https, a host's name, and what all paths begin with.")
    token: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = Field(
        default=None, description="The environment variable that holds the token."
    )
    header: str = Field(
        default=f"Authorization: Bearer {TOKEN}", description="The header that carries the token, as {token}."
    )
    rate: FetchRate = Field(
        default_factory=lambda: FetchRate(at_most=10, within="1 second"),
        description="What the provider allows: {at_most: 10, within: 1 second} unless given.",
    )
    deadline: _short(1, 30) = Field(  # type: ignore[valid-type]
        default=timedelta(seconds=10),
        description="How long all requests made at once may take: 10 seconds unless given.",
    )
    cache: _short(0, 3600) = Field(  # type: ignore[valid-type]
        default=timedelta(minutes=5), description="How long a document is not asked for again: 5 minutes unless given."
    )
    documents: list[FetchedDocument] = Field(
        min_length=1, max_length=DOCUMENTS_MAX, description="Each may read what an earlier one holds."
    )

    @field_validator("base")
    @classmethod
    def _base_is_outside(cls, base: str) -> str:
        return outside("base", base.rstrip("/"))

    @field_validator("header")
    @classmethod
    def _header_carries_the_token(cls, header: str) -> str:
        if not _HEADER.fullmatch(header):
            raise ValueError("The header is a name, a colon and a value with {token}: 'Authorization: Bearer {token}'.")
        return header

    @property
    def is_local(self) -> bool:
        """Whether it leads to this machine, as in tests; only a setting allows that."""
        return self.base.startswith("http://")

    def document(self, name: str) -> FetchedDocument | None:
        """The document of a name."""
        return next((document for document in self.documents if document.name == name), None)

    def headers(self, token: str) -> dict[str, str]:
        """The header that carries a token."""
        name, _, value = self.header.partition(": ")
        return {name: value.replace(TOKEN, token)}


def is_outside(base: str) -> bool:
    """Whether an address is https and a host's name that no private network keeps for itself."""
    found = _BASE.fullmatch(base)
    return found is not None and not found["host"].endswith(_INNER_NAMES)


def url_of(base: str, path: list[str | Value], facts: Mapping[str, object]) -> str | None:
    """The URL of a document: base and path with every expression filled in, percent-encoded.

    None where one of them comes to nothing that could name something: then there is nothing to ask for.
    """
    url = base
    for part in path:
        if isinstance(part, str):
            url += part
            continue
        value = part_of(part, facts)
        if value is None:
            return None
        url += quote(value, safe="")
    return url


def part_of(part: Value, facts: Mapping[str, object]) -> str | None:
    """What an expression puts into a path: an id or a name, never a step up or nothing."""
    found = part.expression.value(facts)
    text = str(found) if type(found) is int else found.strip() if isinstance(found, str) else ""
    if not text or len(text) > LONGEST_VALUE or text == "." or ".." in text or not text.isprintable():
        return None
    return text
