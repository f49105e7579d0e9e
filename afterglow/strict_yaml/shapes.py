"""Which models a file may hold at a place, found by walking a model's annotations along pydantic's location.

It serves messages only: the noun ("a flow") and the known keys there. Where the walk loses its way it knows
nothing, and the message is shorter.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Shape:
    """One thing a value may be: an annotation without unions, and the tag it has in a union told apart by
    tags.
    """

    annotation: Any
    tag: str | None = None

    @property
    def model(self) -> type[BaseModel] | None:
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None


Location = Sequence[str | int]


def shapes_at(model: type[BaseModel], location: Location) -> list[Shape]:
    """What a value at pydantic's location may be; the location may contain the names of union branches."""
    shapes = [Shape(model)]
    for part in location:
        branch = [shape for shape in shapes if len(shapes) > 1 and _is_branch(shape, part)]
        if branch:
            shapes = branch
            continue
        inner = [found for shape in shapes for found in _inside(shape.annotation, part)]
        shapes = inner or shapes
    return shapes


def keys_of(shapes: Iterable[Shape]) -> list[str]:
    """The keys that the models among the shapes know, as they are written in a file."""
    models = [shape.model for shape in shapes if shape.model]
    return [field.alias or name for model in models for name, field in _fields(model).items()]


def tags_of(model: type[BaseModel], location: Location) -> list[str]:
    """The tags of the union at a location."""
    return [shape.tag for shape in shapes_at(model, location) if shape.tag]


def noun(shapes: Iterable[Shape]) -> str:
    """How to speak of a value of these shapes: the model's title, else its tag, else its name in lower case."""
    names = {_name(shape) for shape in shapes if shape.model}
    return names.pop() if len(names) == 1 else "this part"


def _name(shape: Shape) -> str:
    assert shape.model is not None
    title = shape.model.model_config.get("title")
    if shape.tag and not title:
        return f"'{shape.tag}'"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", shape.model.__name__.lstrip("_")).lower()
    name = title or words.removesuffix(" model")
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def _fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields with annotations resolved; a model that refers to later ones may not have been asked for them."""
    if not model.__pydantic_complete__:
        model.model_rebuild(raise_errors=False)
    return model.model_fields


def _is_branch(shape: Shape, part: str | int) -> bool:
    if part in (shape.tag, getattr(shape.annotation, "__name__", None)):
        return True
    origin = get_origin(shape.annotation)
    return isinstance(part, str) and origin is not None and part.startswith(f"{origin.__name__}[")


def _inside(annotation: Any, part: str | int) -> list[Shape]:
    """What stands in a value of this annotation under a key or index."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in _fields(annotation).items():
            if part == (field.alias or name):
                return _alternatives(field.annotation)
        return []
    if isinstance(part, int) and origin in (list, tuple, Sequence) and arguments:
        return _alternatives(arguments[0])
    if origin in (dict, Mapping) and len(arguments) == 2:
        return _alternatives(arguments[1])
    return []


def _alternatives(annotation: Any, tag: str | None = None) -> list[Shape]:
    """An annotation without its unions and wrappings; Literal fields of a model serve as tags where none is
    given.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extras = get_args(annotation)
        tags = [extra.tag for extra in extras if isinstance(extra, Tag)]
        return _alternatives(inner, tags[0] if tags else tag)
    if origin in (Union, types.UnionType):
        return [shape for part in get_args(annotation) for shape in _alternatives(part, tag)]
    value = getattr(annotation, "__value__", None)  # an alias made with `type` or TypeAliasType
    if value is not None:
        return _alternatives(value, tag)
    return [Shape(annotation, tag or _literal_tag(annotation))]


def _literal_tag(annotation: Any) -> str | None:
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return None
    for field in _fields(annotation).values():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            return str(get_args(field.annotation)[0])
    return None
