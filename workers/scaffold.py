"""`afterglow init DIR`: a repository of the shop's own, with everything to begin from.

It is a copy: from then on the files are the shop's, and an upgrade of Afterglow never touches them.
"""

import json
import os
import re
import secrets
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from afterglow import ROOT, __version__
from afterglow.errors import AfterglowError
from afterglow.language.schema import FILES, json_schemas, schema_of

#: What is copied of the sample shop: folder, and the endings of the files in it.
_COPIED = (("flows", ".yaml"), ("flows/sources", ".json"), ("templates/email", ".mjml"), ("templates/email", ".txt"))

#: Where the schemas for editors stand, by kind of file.
_SCHEMAS = ".vscode/afterglow/{}.json"
#: Shops of other kinds, by name.
EXAMPLES = ROOT / "examples"

_README = """\
# Our customers' mails

What we write to customers, and when, run by Afterglow. `flows/shop.yaml` is the brand: begin there.

- `flows/NAME.yaml`: a flow, one file each. `status: draft` is checked and not run, `live` runs.
- `flows/stages.yaml`: the stages of a customer's life. `flows/sources/`: who posts webhooks, and what they mean.
- `flows/programmes/NAME.yaml`: what customers earn points for, and what friends who bring friends get.
- `flows/pieces/NAME.yaml`: steps that several flows `use`.
- `flows/sources/NAME/`: webhooks as they come, each with what it must become; `afterglow source test` holds them to it.
- `templates/email/NAME.mjml` and `.txt`: the mails; `_layout.mjml` is what all of them share.

Before you push: `afterglow check` and `afterglow test`, which runs the `tests` in flow files; so does `pytest`.
To run it here: `afterglow run`. To see sixty days of it: `afterglow demo`.
Secrets stand in `.env`, which stays out of git; `.env.example` says what there is.
"""

_GITIGNORE = """\
# Secrets, and what running Afterglow here leaves behind
.env
.venv/
*.db
*.db-journal
*.db-shm
*.db-wal
*.db.lock
"""

_WORKFLOW = """\
# Flows, sources and mails are held to the rules with every push. requirements.txt says which Afterglow does it.
# A pull request gets one comment that says what it changes: flows, mails, tests. The next push writes it anew.
name: check
on: [push, pull_request]
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install -r requirements.txt
      - run: |
          command -v afterglow || { echo "requirements.txt names no Afterglow yet; say in it where yours is"; exit 1; }
      - run: afterglow check --format github
      - run: afterglow test --format github
      - run: afterglow source test

  review:
    # A pull request of a fork may write no comment.
    if: github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository
    runs-on: ubuntu-latest
    timeout-minutes: 10
    permissions:
      contents: read
      pull-requests: write
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install -r requirements.txt
      # What is wrong stands in the comment, and fails the other job.
      - run: afterglow review --base "origin/$BASE" --format markdown --out review > review.md || [ -s review.md ]
        env:
          BASE: ${{ github.base_ref }}
      - uses: actions/upload-artifact@v4
        id: kept
        with:
          name: review
          path: review
          if-no-files-found: ignore
      - name: write the comment, or write it anew
        env:
          GH_TOKEN: ${{ github.token }}
          COMMENTS: repos/${{ github.repository }}/issues
          NUMBER: ${{ github.event.number }}
          KEPT: ${{ steps.kept.outputs.artifact-url }}
        run: |
          [ -z "$KEPT" ] || printf '\\n[Pictures and mails, before and after](%s)\\n' "$KEPT" >> review.md
          old=$(gh api --paginate "$COMMENTS/$NUMBER/comments" \\
            --jq '.[] | select(.body | startswith("<!-- afterglow review -->")) | .id' | head -n 1)
          if [ -n "$old" ]; then gh api --silent -X PATCH "$COMMENTS/comments/$old" -F body=@review.md
          else gh api --silent "$COMMENTS/$NUMBER/comments" -F body=@review.md; fi
"""


class FolderNotEmptyError(AfterglowError):
    """The folder is not empty; `afterglow init` writes into a new one only."""


class UnknownExampleError(AfterglowError):
    """There is no such example of a shop."""


def make_shop(folder: Path, example: str | None = None) -> list[str]:
    """Write a new shop into a folder that is empty or not there yet; the names of the files, sorted.

    Args:
      example: another shop than the roastery, such as `cafes`.

    Raises:
      UnknownExampleError: there is no such example.
      FolderNotEmptyError: something is in the folder already; nothing was written.
      OSError: the folder cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderNotEmptyError(f"{folder} is not empty; name a new folder for the shop: `afterglow init DIR`.")
    files = (_copied() if example is None else example_files(example)) | _written()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable to its owner alone from the first moment, where secrets stand.
        mode = 0o600 if name == ".env" else 0o666
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
    return sorted(files)


def example_files(name: str) -> dict[str, str]:
    """The flows and templates of an example: its own, and what all shops share (layout, footers, notes to teams).

    Raises:
      UnknownExampleError: there is no such example.
    """
    known = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    if name not in known:
        raise UnknownExampleError(f"There is no example '{name}'; there is {', '.join(known)}.")
    paths = [*ROOT.glob("templates/email/_*"), ROOT / "flows/sources/generic.yaml"]
    shared = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    own = (path for path in sorted((EXAMPLES / name).rglob("*")) if path.is_file())
    return shared | {path.relative_to(EXAMPLES / name).as_posix(): path.read_text(encoding="utf-8") for path in own}


def _copied() -> dict[str, str]:
    return {
        (name := path.relative_to(ROOT).as_posix()): _with_schema(name, path.read_text(encoding="utf-8"))
        for below, ending in _COPIED
        for path in sorted((ROOT / below).rglob(f"*{ending}"))
    }


def _with_schema(name: str, text: str) -> str:
    """A YAML file with the line by which every editor that speaks to yaml-language-server finds its schema."""
    kind = schema_of(name)
    if kind is None:
        return text
    return f"# yaml-language-server: $schema={'../' * name.count('/')}{_SCHEMAS.format(kind)}\n{text}"


def _written() -> dict[str, str]:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    schemas = {name: _SCHEMAS.format(name) for name in FILES}
    settings = {
        "yaml.schemas": {f"./{schemas[name]}": list(globs) for name, globs in FILES.items()},
        "files.associations": {"*.mjml": "html"},
    }
    return {
        ".env": with_secret(example, secrets.token_urlsafe(32)),
        ".env.example": example,
        ".gitignore": _GITIGNORE,
        ".github/workflows/check.yaml": _WORKFLOW,
        ".vscode/settings.json": json.dumps(settings, indent=2) + "\n",
        "README.md": _README,
        "requirements.txt": requirement() + "\n",
    } | {schemas[name]: json.dumps(schema, indent=1) + "\n" for name, schema in json_schemas().items()}


def with_secret(example: str, secret: str) -> str:
    """The example environment with the secret that signs links set."""
    return re.sub(r"^#?\s?AFTERGLOW_SECRET=.*$", lambda _: f"AFTERGLOW_SECRET={secret}", example, flags=re.MULTILINE)


def requirement() -> str:
    """How another machine gets this Afterglow: the way this one got it (PEP 610).

    Where it was installed from a folder, nobody else can; the line is then left to be filled in, rather than naming
    whatever some index has under the same name.
    """
    try:
        origin = json.loads(Distribution.from_name("afterglow").read_text("direct_url.json") or "null")
    except PackageNotFoundError:
        origin = {}
    match origin:
        case None:
            return f"afterglow=={__version__}"
        case {"url": str(url), "vcs_info": {"vcs": str(vcs), "commit_id": str(commit)}}:
            return f"afterglow @ {vcs}+{url}@{commit}"
        case {"url": str(url), "archive_info": _} if not url.startswith("file:"):
            return f"afterglow @ {url}"
        case _:
            return "# Say where your team gets Afterglow from, such as: afterglow @ git+https://git.example/afterglow@v0.1.0"
