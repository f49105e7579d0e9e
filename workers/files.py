"""Read a shop's files from disk: its own folder, or the sample shop that is shipped.

What is read is text by path below the folder, as `compile_files` and `check_files` want it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from afterglow import ROOT
from afterglow.captured import is_expectation
from afterglow.errors import AfterglowError
from afterglow.language.picture import FOLDER, as_text
from afterglow.problems import Problem, Problems

#: A file that is larger is no flow and no mail.
BYTES_MAX = 1024 * 1024
FILES_MAX = 5_000
#: Where a shop's files stand, and the endings that are read there.
_PLACES = (
    ("flows", (".yaml", ".yml")),
    ("pictures", (".png", ".jpg", ".jpeg", ".webp")),
    ("templates/email", (".mjml", ".txt")),
)


class NoShopError(AfterglowError):
    """There is no shop here; `afterglow init DIR` makes one."""


def find_shop_folder(setting: str | Path = "", here: str | Path = ".") -> Path:
    """The folder of the shop: what the setting names, else this folder where it has flows, else the sample shop.

    Raises:
      NoShopError: the setting names a folder without flows.
    """
    if str(setting):
        named = Path(setting).expanduser()
        if not (named / "flows").is_dir():
            raise NoShopError(f"{named} holds no folder flows/; name another, or make one with `afterglow init`.")
        return named
    here = Path(here)
    return here if (here / "flows").is_dir() else ROOT


def read_shop_folder(path: str | Path = "") -> dict[str, str]:
    """The flows, sources, programmes and templates of a shop: text by path, such as "flows/welcome.yaml".

    Args:
      path: the shop's folder. Empty: found as `find_shop_folder` says.

    Raises:
      NoShopError: there is no shop in the folder.
      Problems: every file that cannot be read, and why.
    """
    folder = find_shop_folder(path)
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for name in _names(folder):
        if is_expectation(name):
            continue
        if len(files) == FILES_MAX:
            raise NoShopError(f"{folder} holds more than {FILES_MAX:,} flows and templates; is it the right folder?")
        if name.endswith(".yml"):
            problems.append(Problem(name, 1, 1, "Files here end in .yaml; rename it."))
            continue
        try:
            files[name] = read_text(folder / name, name)
        except Problems as error:
            problems += error.problems
    if problems:
        raise Problems(problems)
    return files


def _names(folder: Path) -> Iterator[str]:
    """The files to read, sorted; hidden ones are an editor's own."""
    for below, endings in _PLACES:
        found: list[str] = []
        for base, folders, names in os.walk(folder / below):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [
                (Path(base) / name).relative_to(folder).as_posix()
                for name in names
                if name.endswith(endings) and not name.startswith(".")
            ]
        yield from sorted(found)


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            written = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise Problems([Problem(name, 1, 1, f"This file cannot be read: {error.strerror}.")]) from None
    if len(written) > BYTES_MAX:
        raise Problems([Problem(name, 1, 1, f"This file is larger than {BYTES_MAX // 1024} KB.")])
    return written


def read_text(path: Path, name: str) -> str:
    """The text of one file of a shop; of a picture, the text that stands for its bytes.

    Args:
      name: as problems call it.

    Raises:
      Problems: it cannot be read, is too large, or is not UTF-8.
    """
    written = _read_bytes(path, name)
    if name.startswith(FOLDER):
        return as_text(written)
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = written[: error.start]
        line = before.count(b"\n") + 1
        col = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise Problems([Problem(name, line, col, "This is not UTF-8; save the file as UTF-8.")]) from None
