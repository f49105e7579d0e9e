"""Read on past mistakes, so that `check` can say what else is wrong in the same file.

What comes out is good for finding further problems and for nothing else.
"""

import re
from copy import deepcopy
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from afterglow.strict_yaml.document import Document, Path
from afterglow.strict_yaml.models import _numbers_as_text, _path, is_beside_the_point

Model = TypeVar("Model", bound=BaseModel)
#: Begins every text that stands in for a missing one; a problem that mentions it is none of the writer's.
STAND_IN: Final = "stand_in_for_what_is_missing"
#: Each round may bring to light what the one before it hid.
_ROUNDS: Final = 8
#: Texts of which one is of the form that a name must have.
_SPELLED: Final = ("a", "A", "AAA", "#000000", "a.b")
#: What stands in for a value of the wrong type, by the type of pydantic's error.
_OF_TYPE: Final = {
    "int_type": 1, "int_parsing": 1, "int_from_float": 1, "float_type": 1, "float_parsing": 1, "decimal_type": 1,
    "decimal_parsing": 1, "bool_type": False, "bool_parsing": False, "list_type": [], "dict_type": {}, "model_type": {},
    "model_attributes_type": {},
}  # fmt: skip


def speaks_of_a_stand_in(message: str) -> bool:
    """Whether a problem is about what the writer did not write."""
    return STAND_IN in message.replace("-", "_")


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
        placed = [(_path(data, problem), problem) for problem in errors]
        for n, (path, problem) in enumerate(placed):
            if is_beside_the_point(path, problem, [other for other, _ in placed]):
                continue
            if not _repair(data, path, problem, n):
                return None
    return None


def _repair(data: Any, path: Path, error: ErrorDetails, n: int) -> bool:
    """Take out or fill in what one error is about; whether that could be done."""
    name = f"{STAND_IN}_{'_'.join(str(part) for part in path)}_{n}"
    if error["type"] == "missing":
        group = _at(data, path)
        if isinstance(group, dict):
            group[error["loc"][-1]] = name
            return True
        return False
    holder: Any = _at(data, path[:-1]) if path else None
    if error["type"] == "extra_forbidden":
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
        return isinstance(holder, dict)
    instead, key = _instead(error, name), path[-1] if path else None
    if instead is None or not (isinstance(holder, list) or (isinstance(holder, dict) and key in holder)):
        return False
    data_at: Any = holder
    data_at[key] = instead
    return True


def _instead(error: ErrorDetails, name: str) -> Any:
    """What could stand in place of a value that one error is about; None where that is not known."""
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            allowed = re.search(r"'([^']*)'", str(context["expected"]))
            return allowed[1] if allowed else None
        case "string_pattern_mismatch":
            spelled = (name.replace("_", "-"), *_SPELLED)  # the first is another one at each place
            return next((text for text in spelled if re.search(context["pattern"], text)), None)
        case "greater_than_equal" | "less_than_equal":
            return context.get("ge", context.get("le"))
        case "greater_than":
            return context["gt"] + 1
        case "value_error" | "string_type":
            return name
        case kind:
            return _OF_TYPE.get(kind)


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data
