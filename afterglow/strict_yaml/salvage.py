"""Read on past mistakes, so that `check` can say what else is wrong in the same file.

What comes out is good for finding further problems and for nothing else.
"""

import re
from copy import deepcopy
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from afterglow.strict_yaml.document import Document, Path
from afterglow.strict_yaml.models import _numbers_as_text, _path

Model = TypeVar("Model", bound=BaseModel)
#: Begins every text that stands in for a missing one; a problem that mentions it is none of the writer's.
STAND_IN: Final = "stand_in_for_what_is_missing"
#: Each round may bring to light what the one before it hid.
_ROUNDS: Final = 6


def salvaged(document: Document, model: type[Model]) -> Model | None:
    """The document without its unknown keys, and with stand-ins for what is missing; None where that is not enough."""
    data: Any = deepcopy(document.data)
    for _ in range(_ROUNDS):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        repaired = _numbers_as_text(data, errors)
        if repaired is not None:
            data = repaired
            continue
        for n, problem in enumerate(errors):
            if not _repair(data, _path(data, problem), problem, n):
                return None
    return None


def _repair(data: Any, path: Path, error: ErrorDetails, n: int) -> bool:
    """Take out or fill in what one error is about; whether that could be done."""
    if error["type"] == "missing":
        holder = _at(data, path)
        if isinstance(holder, dict):
            holder[error["loc"][-1]] = f"{STAND_IN}_{'_'.join(map(str, path))}_{n}"
            return True
        return False
    holder = _at(data, path[:-1]) if path else None
    if not isinstance(holder, dict) or path[-1] not in holder:
        return error["type"] == "extra_forbidden" and isinstance(holder, dict)
    if error["type"] == "extra_forbidden":
        del holder[path[-1]]
        return True
    if error["type"] == "literal_error" and (allowed := re.search(r"'([^']*)'", str(error.get("ctx", {})["expected"]))):
        holder[path[-1]] = allowed[1]
        return True
    if error["type"] == "string_pattern_mismatch":
        holder[path[-1]] = "a"
        return True
    return False


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data
