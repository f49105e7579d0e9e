"""What happens while the provider waits: read the body once, divide it, and give each part its key."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from afterglow.language.source import Source
from afterglow.mapping import soap
from afterglow.mapping.facts import Unmappable

#: How deep a body may nest; a real payload of the providers known here stays below 12.
MAX_DEPTH: Final = 32
#: The most elements one request may hold (Segment's largest batch is 4,000).
MAX_ELEMENTS: Final = 5_000
#: Longer keys are kept as their digest.
LONGEST_KEY: Final = 200

Facts = dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """One element of a request: what becomes one row of the inbox."""

    key: str
    #: SHA-256 of `body`, in hex.
    digest: str
    body: bytes = field(repr=False)


def elements(source: Source, headers: Mapping[str, str], body: bytes) -> list[Element]:
    """Divide a request and name each part so that the same part sent again has the same name.

    Without `each` the whole body is one element. An element without a key goes by its digest.

    Args:
      headers: by lower-cased name.

    Raises:
      Unmappable: when the body cannot be read or divided; the caller keeps it whole, by its digest.
    """
    form = FORMATS[source.format]
    whole = form.read(body)
    facts: Facts = {"headers": dict(headers), "body": whole, "item": whole}
    if source.each is None:
        return [_element(source, facts, body)]
    parts = form.divided(whole, source.each.expression.value(facts))
    if not isinstance(parts, list):
        raise Unmappable(f"There is no list at `{source.each.expression.text}` to divide the body by.")
    if len(parts) > MAX_ELEMENTS:
        raise Unmappable(f"The request holds {len(parts)} elements, more than the {MAX_ELEMENTS} allowed.")
    return [
        _element(source, {"headers": facts["headers"], "body": part, "item": part}, _written(part)) for part in parts
    ]


def _written(part: object) -> bytes:
    return orjson.dumps(part, default=float)  # a bare fraction has become a Decimal on its way through `each`


def _element(source: Source, facts: Facts, body: bytes) -> Element:
    digest = hashlib.sha256(body).hexdigest()
    key = source.key.expression.value(facts)
    if isinstance(key, str) and key:
        text = key.replace("\0", "")
    elif type(key) is int:
        text = str(key)
    else:
        text = f"sha256:{digest}"
    if len(text) > LONGEST_KEY:
        text = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Element(key=text, digest=digest, body=body)


def parsed(body: bytes) -> Any:
    """The JSON of a body: valid UTF-8, at most 32 deep, without the one character no database keeps."""
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unmappable(f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    if _is_deeper_than(whole, MAX_DEPTH):
        raise Unmappable(f"The body is nested more than {MAX_DEPTH} deep.")
    return _without_nul(whole) if b"\\u0000" in body else whole


def read_element(source: Source, headers: Mapping[str, str], body: bytes) -> Any:
    """What one element holds, from the bytes that the inbox kept of it.

    A part is kept as JSON in whatever form its request came, and is known by its `message`. A request that could not
    be divided was kept whole, and is divided again, which tells the reason again.

    Raises:
      Unmappable: when the bytes cannot be read.
    """
    if source.format == "json" or source.each is None:
        return FORMATS[source.format].read(body)
    if body.startswith(b"{") and soap.MESSAGE in (part := parsed(body)):
        return part
    parts = elements(source, headers, body)
    if len(parts) != 1:
        raise Unmappable(f"It was kept whole when it came, and holds {len(parts)} elements; have it sent again.")
    return parsed(parts[0].body)


def _is_deeper_than(whole: object, levels: int) -> bool:
    """Level by level rather than by recursion: nesting is exactly what must not be followed."""
    level = [whole] if type(whole) in (dict, list) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)  # type: ignore[attr-defined]
            if type(inner) is dict or type(inner) is list
        ]
    return bool(level)


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "")
        case dict():
            return {key.replace("\0", ""): _without_nul(inner) for key, inner in value.items()}
        case list():
            return [_without_nul(inner) for inner in value]
        case _:
            return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a provider is told that its request is on the disk."""

    status: int
    media_type: bytes
    #: The body, given how many elements were taken.
    content: Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A form in which bodies come. Whatever it is, rules read the same plain values."""

    #: From bytes to plain values; raises Unmappable.
    read: Callable[[bytes], Any]
    answer: Answer
    #: From the whole and what stands at `each` to the parts.
    divided: Callable[[Any, Any], Any] = lambda whole, parts: parts


#: As source files name them under `format`.
FORMATS: Final[dict[str, Format]] = {
    "json": Format(
        read=parsed,
        answer=Answer(
            status=202,
            media_type=b"application/json",
            content=lambda accepted: orjson.dumps({"accepted": accepted}),
        ),
    ),
    "soap": Format(
        read=soap.read_soap,
        answer=Answer(status=200, media_type=b"text/xml; charset=utf-8", content=lambda accepted: soap.ACKNOWLEDGEMENT),
        divided=soap.divided,
    ),
}
