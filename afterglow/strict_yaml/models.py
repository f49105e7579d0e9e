"""Check a document against a pydantic model and say what is wrong in plain sentences, each at its place.

pydantic speaks of locations and types; here they become lines and columns of the file and words a marketer
uses.

1. A location names fields, but also the branches of unions it tried. `_path` keeps the parts that lead
through
   the data to the very input pydantic complains about, and drops the rest.
2. An error about the kind of a value is dropped where another branch of a union got further in.
3. What is left becomes one sentence per place. For an unknown key the models allowed there are found by
walking
   the annotations (shapes.py), so that the nearest known key can be proposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from afterglow.expressions import ExpressionError
from afterglow.problems import Problem, Problems, did_you_mean
from afterglow.strict_yaml.document import Document, Path, written
from afterglow.strict_yaml.shapes import keys_of, noun, shapes_at, tags_of

Model = TypeVar("Model", bound=BaseModel)
#: Each round turns the numbers that should have been text into text; unions may need a second look.
_ROUNDS: Final = 3

#: The patterns our models use, in words.
_LETTERS: Final[Mapping[str, str]] = {
    r"^[a-z0-9][a-z0-9-]*$": "small letters, digits and hyphens",
    r"^[a-z][a-z0-9_]*$": "small letters, digits and underscores",
    r"^[a-z][a-z0-9-]{0,59}$": "at most 60 small letters, digits and hyphens, a letter first",
    r"^[A-Z][A-Z0-9_]*$": "capital letters, digits and underscores",
    r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$": "the name of an event, such as order.paid",
    r"^[A-Z]{3}$": "three capital letters",
    r"^#[0-9a-fA-F]{6}$": "a colour such as #1f2937",
}
#: What a value must be, by the type of pydantic's error. These are errors about the kind of value as a whole.
_KINDS: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "nothing",
    "list_type": "a list",
    "tuple_type": "a list",
    "frozen_set_type": "a list",
    "set_type": "a list",
    "dict_type": "a group of keys",
    "mapping_type": "a group of keys",
    "model_type": "a group of keys",
    "model_attributes_type": "a group of keys",
    "time_type": "a time such as 10:00",
    "time_parsing": "a time such as 10:00",
    "date_type": "a date such as 2026-03-02",
    "date_parsing": "a date such as 2026-03-02",
    "date_from_datetime_parsing": "a date such as 2026-03-02",
}
#: The same where the limit comes with the error.
_LIMITS: Final[Mapping[str, Callable[[Mapping[str, object]], str]]] = {
    "greater_than": lambda ctx: f"more than {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"at least {ctx['ge']}",
    "less_than": lambda ctx: f"less than {ctx['lt']}",
    "less_than_equal": lambda ctx: f"at most {ctx['le']}",
    "string_too_short": lambda ctx: _at_least(ctx["min_length"], "character"),
    "string_too_long": lambda ctx: _at_most(ctx["max_length"], "character"),
}


def validated(document: Document, model: type[Model]) -> Model:
    """The document as an instance of the model. Raises Problems with a sentence for everything wrong in it.

    A number in the file is accepted where the model wants text: it becomes the text that was written.
    """
    data = document.data
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            retold = _numbers_as_text(data, errors)
            if retold is None:
                raise Problems(_problems(document, data, model, errors)) from None
            data = retold
    raise AssertionError("numbers become text at most once per branch of a union")


def _numbers_as_text(data: object, errors: Iterable[ErrorDetails]) -> object | None:
    """A copy of the data with text for each number where text was wanted; None when there is no such
    number.
    """
    paths = [
        _path(data, error)
        for error in errors
        if error["type"] == "string_type" and type(error["input"]) in (int, Decimal)
    ]
    if not paths:
        return None
    copy = deepcopy(data)
    changed = False
    for path in paths:
        container: object = copy
        for part in path[:-1]:
            container = container[part]  # type: ignore[index]
        if path and not isinstance(container[path[-1]], str):  # type: ignore[index]
            container[path[-1]] = written(container[path[-1]])  # type: ignore[index]
            changed = True
    return copy if changed else None


def _path(data: object, error: ErrorDetails) -> Path:
    """The path through the data to what an error is about: for a missing key, to the group that lacks it.

    Parts of the location that are names of union branches are left out. Where a name could be either, the way
    that ends at the error's input is right; failing that, the longest.
    """
    wanted, location = error["input"], error["loc"]
    if error["type"] == "missing":
        location = location[:-1]
    best: Path = ()
    seen: set[tuple[int, Path]] = set()
    pending: list[tuple[int, Path, object]] = [(0, (), data)]
    while pending:
        index, path, value = pending.pop()
        if (index, path) in seen:
            continue
        seen.add((index, path))
        if index == len(location):
            complete = error["type"] != "extra_forbidden" or (path[-1:] == location[-1:])
            if complete and (value is wanted or (type(value) is type(wanted) and value == wanted)):
                return path
            best = max(best, path, key=len)
            continue
        part = location[index]
        pending.append((index + 1, path, value))
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)
        )
        if inside:
            pending.append((index + 1, (*path, part), value[part]))  # type: ignore[index]
    return best


def _problems(document: Document, data: object, model: type[BaseModel], errors: list[ErrorDetails]) -> list[Problem]:
    placed = [(_path(data, error), error) for error in errors]
    paths = [path for path, _ in placed]
    misspelt = {(path[:-1], meant) for path, error in placed for meant in _meant(model, path, error)}
    problems: list[Problem] = []
    kinds: dict[Path, list[str]] = {}
    for path, error in placed:
        if is_beside_the_point(path, error, paths) or (
            error["type"] == "missing" and (path, error["loc"][-1]) in misspelt
        ):
            continue
        if error["type"] in _KINDS:
            if not _says_more(path, placed):
                kinds.setdefault(path, []).append(_KINDS[error["type"]])
            continue
        problems.append(_problem(document, model, path, error))
    for path, expected in kinds.items():
        wanted = " or ".join(dict.fromkeys(expected))
        message = f"{_subject(path)} must be {wanted}, not {_shown(_value_at(data, path))}."
        problems.append(document.problem(path, message))
    return problems


def is_beside_the_point(path: Path, error: ErrorDetails, paths: Iterable[Path]) -> bool:
    """Whether a value is said to be of the wrong kind by one branch of a union, and another branch got further in."""
    of_kind = error["type"] in _KINDS or (error["type"] == "literal_error" and isinstance(error["input"], dict | list))
    return of_kind and any(len(other) > len(path) and other[: len(path)] == path for other in paths)


def _meant(model: type[BaseModel], path: Path, error: ErrorDetails) -> Iterator[str]:
    """The key that an unknown key was meant to be: it is not missing then, but misspelt, which is told once."""
    if error["type"] == "extra_forbidden" and path:
        keys = keys_of(shapes_at(model, error["loc"][:-1]))
        yield from (key for key in keys if did_you_mean(str(path[-1]), [key]))


def _says_more(path: Path, placed: list[tuple[Path, ErrorDetails]]) -> bool:
    """Whether another branch of a union found the kind right and complained about something in the value."""
    return any(other == path and error["type"] not in _KINDS for other, error in placed)


def _problem(document: Document, model: type[BaseModel], path: Path, error: ErrorDetails) -> Problem:
    context = error.get("ctx", {})
    subject = _subject(path)
    match error["type"]:
        case "extra_forbidden":
            return document.key_problem(path, _unknown_key(model, path, error))
        case "missing":
            shapes = shapes_at(model, error["loc"][:-1])
            return document.problem(path, f"'{error['loc'][-1]}' is missing: {noun(shapes)} needs it.")
        case "literal_error" | "enum":
            allowed = re.findall(r"'([^']*)'", str(context.get("expected", ""))) or [str(context.get("expected"))]
            meant = did_you_mean(str(error["input"]), allowed)
            listed = ", ".join(allowed)
            one_of = listed if len(allowed) == 1 else f"one of {listed}"
            return document.problem(path, f"{subject} must be {one_of}, not {_shown(error['input'])}.{meant}")
        case "union_tag_not_found" | "union_tag_invalid":
            return _unknown_kind(document, model, path, error)
        case "value_error" | "assertion_error":
            return _refused_by_validator(document, path, context.get("error"), error["msg"])
        case "too_short":
            return document.problem(path, f"{subject} needs {_at_least(context['min_length'], 'entry')}.")
        case "too_long":
            return document.problem(path, f"{subject} may have {_at_most(context['max_length'], 'entry')}.")
        case "string_pattern_mismatch":
            letters = _LETTERS.get(str(context["pattern"]), f"text of the form {context['pattern']}")
            return document.problem(path, f"{subject} must be {letters}, not {_shown(error['input'])}.")
        case kind if kind in _LIMITS:
            limit = _LIMITS[kind](context)
            return document.problem(path, f"{subject} must be {limit}, not {_shown(error['input'])}.")
        case _:
            return document.problem(path, f"{subject}: {_sentence(error['msg'])}")


def _unknown_key(model: type[BaseModel], path: Path, error: ErrorDetails) -> str:
    shapes = shapes_at(model, error["loc"][:-1])
    name = str(path[-1] if path else error["loc"][-1])
    return f"'{name}' is not a key of {noun(shapes)}.{did_you_mean(name, keys_of(shapes))}"


def _unknown_kind(document: Document, model: type[BaseModel], path: Path, error: ErrorDetails) -> Problem:
    """A union told apart by a key: name the keys that decide, and the one that was probably meant."""
    tags = tags_of(model, error["loc"])
    value = error["input"]
    if not isinstance(value, dict):
        return document.problem(path, f"{_subject(path)} must be a group of keys, not {_shown(value)}.")
    for key in value:
        meant = did_you_mean(str(key), tags)
        if meant and key not in tags:
            return document.key_problem((*path, key), f"'{key}' is not known here.{meant}")
    if not tags:
        return document.problem(path, f"{_subject(path)}: {_sentence(error['msg'])}")
    return document.problem(path, f"{_subject(path)} needs one of these keys: {', '.join(tags)}.")


def _refused_by_validator(document: Document, path: Path, error: object, message: str) -> Problem:
    if isinstance(error, ExpressionError):
        line, col = document.place_inside(path, error.line, error.col)
        return Problem(document.file, line, col, error.message)
    said = str(error) if isinstance(error, Exception) and str(error) else message
    return document.problem(path, _sentence(said))


def _sentence(message: str) -> str:
    message = message[:1].upper() + message[1:]
    return message if message.endswith((".", "?", "!")) else f"{message}."


def _subject(path: Path) -> str:
    """How to speak of the value at a path: by its key, or as an entry of a list."""
    match path:
        case (*_, str(parent), int(index)):
            return f"Entry {index + 1} of '{parent}'"
        case (*_, int(index)):
            return f"Entry {index + 1}"
        case (*_, name):
            return f"'{name}'"
        case _:
            return "The file"


def _shown(value: object) -> str:
    match value:
        case dict():
            return "a group of keys"
        case list():
            return "a list"
        case None:
            return "nothing"
        case _:
            text = written(value)
            return f"'{text}'" if len(text) <= 60 else f"'{text[:60]}...'"


def _value_at(data: object, path: Path) -> object:
    for part in path:
        data = data[part]  # type: ignore[index]
    return data


def _at_least(count: object, thing: str) -> str:
    return f"at least {count} {_plural(count, thing)}"


def _at_most(count: object, thing: str) -> str:
    return f"at most {count} {_plural(count, thing)}"


def _plural(count: object, thing: str) -> str:
    if count == 1:
        return thing
    return f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
