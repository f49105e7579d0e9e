"""Pieces: steps that several flows use, each a file `flows/pieces/NAME.yaml`.

A flow is put into force whole: behind its own text stand the texts of the pieces it uses, each after a line that names
its file. So one digest stands for all of it, whoever runs in a version keeps the pieces of that version, and every
problem still has its place in the file in which it was written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from afterglow import strict_yaml
from afterglow.language.compiling import Path

FOLDER: Final = "flows/pieces"
_USE = re.compile(r"\buse[\"']?\s*:\s*[\"']?([a-z0-9][a-z0-9-]*)")
_HEAD = re.compile(r"^# --- flows/pieces/([a-z0-9-]+)\.yaml$\n?", re.MULTILINE)

#: The document of each piece by its name.
Pieces = Mapping[str, strict_yaml.Document]


def file_of(name: str) -> str:
    """The file of a piece."""
    return f"{FOLDER}/{name}.yaml"


def pieces_in(files: Mapping[str, str]) -> dict[str, str]:
    """The texts of a shop's pieces by name."""
    found = ((file.rpartition("/"), text) for file, text in sorted(files.items()) if file.endswith(".yaml"))
    return {base.removesuffix(".yaml"): text for (folder, _, base), text in found if folder == FOLDER}


def joined(text: str, pieces: Mapping[str, str]) -> str:
    """The text of a flow with the pieces that it uses behind it; itself where it uses none that there are."""
    names = sorted(_used(text, pieces))
    if not names:
        return text
    parts = [text if text.endswith("\n") else text + "\n"]
    for name in names:
        body = pieces[name]
        parts += [f"# --- {file_of(name)}\n", body if body.endswith("\n") else body + "\n"]
    return "".join(parts)


def divided(text: str) -> tuple[str, dict[str, str]]:
    """A flow's own text, and the texts of the pieces behind it by name."""
    own, *rest = _HEAD.split(text)
    return own, dict(zip(rest[::2], rest[1::2], strict=True))


def _used(text: str, pieces: Mapping[str, str]) -> set[str]:
    """The pieces that a text names, and those that they name."""
    found: set[str] = set()
    ahead = [text]
    while ahead:
        for name in _USE.findall(ahead.pop()):
            if name in pieces and name not in found:
                found.add(name)
                ahead.append(pieces[name])
    return found


def located(document: strict_yaml.Document, pieces: Pieces, path: Path) -> tuple[strict_yaml.Document, Path]:
    """The file in which something stands, and where: a path that leads on behind a `use` leads into the piece."""
    for n, part in enumerate(path[:-1]):
        if part == "use" and (name := _at(document.data, path[: n + 1])) in pieces:
            return located(pieces[name], pieces, path[n + 1 :])
    return document, path


def _at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = data[part]
    return data


def written(document: strict_yaml.Document, pieces: Pieces, path: Path) -> Any:
    """What stands at a path of a flow, as it was read."""
    where, inside = located(document, pieces, path)
    return _at(where.data, inside)


def stands_in(path: Path) -> tuple[Path, tuple[str | int, ...]]:
    """The list in which a step stands for whoever reads the flow, and what it is sorted by there.

    The steps of a piece stand in the list in which it is used.
    """
    where, order = path[:-1], path[-1:]
    while where[-2:] == ("use", "steps"):
        where, order = where[:-3], (where[-3], *order)
    return where, order


def lacks(part: Any, pieces: Pieces) -> bool:
    """Whether a flow, or a part of it, uses a piece that is not there."""
    if isinstance(part, dict):
        return ("use" in part and part["use"] not in pieces) or lacks(list(part.values()), pieces)
    return isinstance(part, list) and any(lacks(one, pieces) for one in part)


def names_of(path: Path, document: strict_yaml.Document, pieces: Pieces) -> Iterator[str]:
    """The pieces that a path leads through, outermost first."""
    for n, part in enumerate(path[:-1]):
        if part == "use" and (name := _at(document.data, path[: n + 1])) in pieces:
            yield name
            yield from names_of(path[n + 1 :], pieces[name], pieces)
            return
