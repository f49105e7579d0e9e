"""Payloads kept beside a source file, and what is expected of them: `flows/sources/NAME/CASE.json` and
`CASE.expected.yaml`.

A payload is the bare body as it was posted, or `{"headers": {...}, "body": ...}` where the source reads headers (as
`afterglow inbox show ID --body --json` prints a webhook that came). The expectation is a list, one entry per element
of the request, in YAML that a person can read, correct and compare.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from afterglow import strict_yaml
from afterglow.errors import AfterglowError
from afterglow.mapping import Ignored, Lacking, Mapped, PrivacyRequest, Unmappable
from afterglow.mapping.trial import Trial
from afterglow.problems import Problems

#: The ending of an expectation, which takes the place of the payload's own.
EXPECTED: Final = ".expected.yaml"
#: Such a text stands in quotes, so that nobody takes it for a number.
_DIGITS: Final = re.compile(r"-?[0-9.]+")
#: Lines around a difference.
_AROUND: Final = 3


def is_expectation(file: str) -> bool:
    """Whether a file below the shop's folder is kept beside a source for `afterglow source test`, and is no flow."""
    return file.startswith("flows/sources/") and file.count("/") == 3 and file.endswith(EXPECTED)


class CapturedError(AfterglowError):
    """A captured payload cannot be used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Captured:
    """A request as it came, or as a provider documents it."""

    #: By lower-cased name.
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def read_captured(text: bytes, file: str) -> Captured:
    """A payload file: the bare body, or headers and body.

    Raises:
      CapturedError: headers that are no group of texts.
    """
    try:
        whole = json.loads(text)
    except ValueError:  # some bodies are no JSON, and some JSON is broken: both are tried as they are
        return Captured(headers={}, body=text)
    if not isinstance(whole, dict) or not {"headers", "body"} <= whole.keys():
        return Captured(headers={}, body=text)
    headers, body = whole["headers"], whole["body"]
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise CapturedError(f'{file}: "headers" holds a text for each name, such as {{"x-topic": "orders/paid"}}.')
    return Captured(
        headers={name.lower(): value for name, value in headers.items()},
        body=body.encode() if isinstance(body, str) else _inner_body(text),
    )


def _inner_body(text: bytes) -> bytes:
    """The body as JSON of its own, its numbers as they were written."""
    whole = json.loads(text, parse_float=_as_written, parse_int=_as_written)
    return orjson.dumps(whole["body"])


def _as_written(digits: str) -> orjson.Fragment:
    return orjson.Fragment(digits)


def told(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """What a request becomes as plain data: what an expectation says, and `--json` prints."""
    return [_told(trial) for trial in trials]


def _told(trial: Trial) -> dict[str, Any]:
    base: dict[str, Any] = {"key": trial.element.key}
    match trial.result:
        case Ignored(reason=reason):
            return base | {"ignored": reason}
        case Unmappable() as error:
            return base | {"parked": error.reason}
        case PrivacyRequest(kind=kind):
            return base | {"privacy": kind}
        case Lacking(name=name):
            return base | {"fetches": name}
        case Mapped() as mapped:
            return base | told_event(mapped)


def told_event(mapped: Mapped) -> dict[str, Any]:
    """An event as plain data; what it does not say is left out."""
    who = mapped.customer
    consent, account = mapped.consent, mapped.account
    customer = {
        "id": who.external_id,
        "customer": who.customer_id,
        "email": who.email,
        "phone": who.phone,
        "first_name": who.first_name,
        "last_name": who.last_name,
        "locale": who.locale,
        "timezone": who.timezone,
        "order": who.order_id,
        **who.attributes,
    }
    whole: dict[str, Any] = {
        "event": mapped.event,
        "occurred_at": _moment(mapped.stated_at) or "when it comes",
        "stage": mapped.stage,
        "customer": _there(customer),
        "consent": None
        if consent is None
        else _there(
            {
                "state": consent.state,
                "topic": consent.topic,
                "at": _moment(consent.at),
                "evidence": consent.evidence,
            }
        ),
        "account": None if account is None else _there({"id": account.id, "name": account.name, **account.attributes}),
        "payload": dict(mapped.payload) or None,
    }
    return _there(whole)


def _there(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def as_yaml(value: object) -> str:
    """Plain data as strict YAML that reads back equal; amounts are written without trailing zeros."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: object) -> list[str]:
    match value:
        case dict() if value:
            lines = []
            for name, inner in value.items():
                below = _lines(inner)
                if isinstance(inner, dict | list) and inner:
                    indent = "  " if isinstance(inner, dict) else ""
                    lines += [f"{_text(str(name))}:", *(indent + line for line in below)]
                else:
                    lines.append(f"{_text(str(name))}: {below[0]}")
            return lines
        case list() if value:
            lines = []
            for inner in value:
                first, *rest = _lines(inner)
                lines += [f"- {first}", *(f"  {line}" for line in rest)]
            return lines
        case dict():
            return ["{}"]
        case list():
            return ["[]"]
        case bool():
            return ["true" if value else "false"]
        case None:
            return ["null"]
        case int():
            return [_number(str(value), value)]
        case float() | Decimal():
            exact = Decimal(str(value))
            return [_number(format(exact.normalize(), "f") if exact.is_finite() else str(exact), exact)]
        case _:
            return [_text(str(value))]


def _number(written: str, value: int | Decimal) -> str:
    """A number as it stands; one that strict YAML would read as text (of twenty digits, say) in quotes."""
    return written if _read(written) == value else f'"{written}"'


def _text(text: str) -> str:
    """A text without quotes where it is read back as itself, else in double ones."""
    if text.isprintable() and not _DIGITS.fullmatch(text) and _read(text) == text:
        return text
    escaped = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)


def _read(written: str) -> object:
    """What stands in the file as a value and as a key: the two must agree."""
    try:
        data = strict_yaml.load(f"- {written}\n- a: {written}\n  {written}: b\n", "").data
    except Problems:
        return None
    match data:
        case [value, {"a": again, **keys}] if value == again and keys == {str(written): "b"}:
            return value
    return None


def differences(expected: str, file: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """How what was found differs from an expectation, as lines of a diff; nothing where they agree.

    Comments, quotes and the order of keys in the file do not matter; lines with `-` were expected, with `+` found.

    Raises:
      Problems: the file is not strict YAML.
    """
    before = as_yaml(_in_order_of(found, strict_yaml.load(expected, file).data)).splitlines()
    after = as_yaml(list(found)).splitlines()
    if before == after:
        return []
    return list(difflib.unified_diff(before, after, "expected", "found", n=_AROUND, lineterm=""))


def _in_order_of(model: Any, value: Any) -> Any:
    """The value with its keys in the order in which the model has them, so that only what differs is a difference."""
    if isinstance(model, Mapping) and isinstance(value, dict):
        names = [name for name in model if name in value] + [name for name in value if name not in model]
        return {name: _in_order_of(model.get(name), value[name]) for name in names}
    if isinstance(model, list | tuple) and isinstance(value, list):
        padded = [*model, *([None] * len(value))]
        return [_in_order_of(one, inner) for one, inner in zip(padded, value, strict=False)]
    return value
