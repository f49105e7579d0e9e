"""Of which commit the files in a folder are: read from its repository, without git, because servers often have none."""

import re
from pathlib import Path

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def commit_of(folder: Path, told: str = "") -> str | None:
    """The commit that is checked out where a folder stands, else the one that was told; None where neither is one."""
    return _checked_out(folder.resolve()) or _sha(told.strip().lower())


def _checked_out(folder: Path) -> str | None:
    for place in (folder, *folder.parents):
        found = place / ".git"
        try:
            if found.is_file():  # a worktree or a submodule: a line that says where its own part stands
                found = (place / found.read_text().removeprefix("gitdir:").strip()).resolve()
            if found.is_dir():
                return _head(found)
        except (OSError, UnicodeDecodeError):
            return None
    return None


def _head(own: Path) -> str | None:
    said = (own / "HEAD").read_text().strip()
    if not said.startswith("ref:"):
        return _sha(said)
    ref = said.removeprefix("ref:").strip()
    shared = own / "commondir"
    for place in (own, (own / shared.read_text().strip()).resolve() if shared.is_file() else own):
        if (place / ref).is_file():
            return _sha((place / ref).read_text().strip())
        if (place / "packed-refs").is_file():
            for line in (place / "packed-refs").read_text().splitlines():
                sha, _, name = line.partition(" ")
                if name == ref:
                    return _sha(sha)
    return None


def _sha(text: str) -> str | None:
    return text if _SHA.fullmatch(text) else None
