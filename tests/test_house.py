"""Promises of the house itself: which way imports flow, what stands where, what is shipped."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from afterglow import ROOT, __version__
from afterglow.coupons.providers import PROVIDERS
from db.settings import Settings

PACKAGES = ("afterglow", "db", "workers", "web")

#: What each of our packages may import of the others.
MAY_IMPORT = {
    "afterglow": {"afterglow"},
    "db": {"afterglow", "db"},
    "workers": {"afterglow", "db", "workers"},
    "web": {"afterglow", "db", "web"},
}
#: The one exception: the command line's one-process mode starts workers and web together.
STARTS_BOTH = re.compile(r"workers/(cli\w*\.py|commands/\w+\.py|embedded\.py)")

#: Modules by which a function would read a clock, roll dice or touch the world.
IMPURE = {"asyncio", "dramatiq", "httpx", "os", "psycopg", "random", "redis", "requests", "secrets"}
IMPURE |= {"smtplib", "socket", "sqlalchemy", "sqlite3", "subprocess", "threading", "time", "urllib.request"}

#: Names that say nothing about what is inside.
NAMES_THAT_HIDE = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


@cache
def our_files() -> tuple[Path, ...]:
    """Every file that git knows or would take, relative to ROOT; without git, all but what tools made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = {Path(name) for name in listed.stdout.split("\0") if name}
    else:
        names = {path.relative_to(ROOT) for path in ROOT.rglob("*")}
    return tuple(sorted(n for n in names if (ROOT / n).is_file() and not _made_by_tools(n)))


def _made_by_tools(name: Path) -> bool:
    return any(part == "__pycache__" or (part.startswith(".") and part != ".ci") for part in name.parts[:-1])


def imports(source: str, file: str) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import of a Python source, those inside functions and `if` too."""
    for node in ast.walk(ast.parse(source, file)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield node.lineno, module
                yield from ((node.lineno, f"{module}.{name.name}") for name in names)


def wrong_imports(file: str, source: str) -> list[str]:
    """`file:line: sentence` for every import that flows against the current."""
    home = file.split("/")[0]
    allowed = MAY_IMPORT[home] | ({"web"} if STARTS_BOTH.fullmatch(file) else set())
    found = {(line, module.split(".")[0]) for line, module in imports(source, file)}
    return [
        f"{file}:{line}: {home} must not import {other}"
        for line, other in sorted(found)
        if other in {*PACKAGES, "tests", "benchmarks"} - allowed
    ]


def python_files(*folders: str) -> list[str]:
    return [str(f) for f in our_files() if f.suffix == ".py" and f.parts[0] in folders]


def test_imports_flow_one_way():
    offenders = [line for file in python_files(*PACKAGES) for line in wrong_imports(file, _text(file))]

    assert offenders == []


@pytest.mark.parametrize(
    ("file", "source", "offence"),
    [
        (
            "afterglow/decide.py",
            "import json\nimport db.tables",
            "afterglow/decide.py:2: afterglow must not import db",
        ),
        (
            "db/engine.py",
            "def f():\n    from workers import main",
            "db/engine.py:2: db must not import workers",
        ),
        ("web/hooks.py", "from workers.ingest import run", "web/hooks.py:1: web must not import workers"),
        ("workers/ingest.py", "import web", "workers/ingest.py:1: workers must not import web"),
        ("workers/ingest.py", "import tests.servers", "workers/ingest.py:1: workers must not import tests"),
        ("workers/commands/run.py", "import web.app", None),
        ("workers/embedded.py", "from web import app", None),
        ("web/cli.py", "import db, afterglow.errors", None),
    ],
)
def test_an_import_against_the_current_is_named_with_its_line(file, source, offence):
    assert wrong_imports(file, source) == ([offence] if offence else [])


def test_the_core_neither_reads_a_clock_nor_touches_the_world():
    offenders = [
        f"{file}:{line}: the pure core must not import {module}"
        for file in python_files("afterglow")
        for line, module in imports(_text(file), file)
        if module in IMPURE or module.split(".")[0] in IMPURE
    ]

    assert offenders == []


def test_flows_and_templates_hold_no_python():
    assert [str(f) for f in our_files() if f.parts[0] in ("flows", "templates") and f.suffix == ".py"] == []
    kept = {f for f in our_files() if f.match("flows/sources/*/*.json")}  # payloads, for `afterglow source test`
    assert {f.suffix for f in our_files() if f.parts[0] == "flows" and f not in kept} <= {".yaml"}


def test_no_file_hides_what_it_is_about():
    assert [str(f) for f in our_files() if {part.split(".")[0] for part in f.parts} & NAMES_THAT_HIDE] == []


def test_no_other_distribution_provides_our_names():
    providers = packages_distributions()
    others = {name: set(providers.get(name, ())) - {"afterglow"} for name in (*PACKAGES, "flows", "templates")}

    assert {name: sorted(found) for name, found in others.items() if found} == {}


def test_the_tree_names_no_machine_and_no_registry():
    # In pieces, so that this file does not find itself.
    forbidden = re.compile(
        "|".join(
            [
                r"(?<![\w.])/(?:" + "|".join(["ro" + "ot", "wo" + "rk", "opt/" + "ag", "home/" + r"\w+"]) + r")/",
                r"files\.python" + r"hosted\.org|test\.py" + r"pi\.org|(?<!\w)py" + r"pi\.org|registry\.npm" + r"js",
                r"--(?:extra-)?index" + r"-url|--find" + r"-links",
            ]
        )
    )
    offenders = [
        f"{file}:{number}: {found.group()}"
        for file in our_files()
        if str(file) not in ("Makefile", "tests/test_house.py")
        for number, line in enumerate(_text(file).splitlines(), start=1)
        if (found := forbidden.search(line))
    ]

    assert offenders == []


def test_the_lock_pins_every_requirement_by_digest():
    entries = re.split(r"\n(?=\S)", _text("requirements.lock").replace("\\\n", " "))
    pins = [entry for entry in entries if entry.strip() and not entry.startswith("#")]

    assert len(pins) > 40
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_the_example_environment_names_every_setting_and_no_other():
    settings = {f"AFTERGLOW_{name.upper()}" for name in Settings.model_fields}
    sources = {secret for file in our_files() if file.match("flows/sources/*.yaml") for secret in _secrets(file)}
    shops = {name for talks in PROVIDERS.values() for name in talks.variables}
    named = re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", _text(".env.example"), re.MULTILINE)

    assert sorted(named) == sorted(settings | sources | shops)


def _secrets(file: Path) -> list[str]:
    """The environment variables that a source file names: its secrets, and what it fetches with or would."""
    text = _text(file)
    source = YAML(typ="safe").load(text)
    secrets = [] if source["auth"] == "none" else source["auth"]["secrets"]
    backfill = source.get("backfill", {}).get("environment", {}).values()
    return [*secrets, *re.findall(r"^#? +token: ([A-Z0-9_]+)$", text, re.MULTILINE), *backfill]


@pytest.mark.slow
def test_the_wheel_carries_the_sample_shop_and_the_migrations(tmp_path):
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"

    built = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob(f"afterglow-{__version__}-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = {str(f) for f in our_files() if f.parts[0] in ("flows", "templates")} | {"alembic.ini"}
    assert {f"afterglow/_bundled/{name}" for name in data} - inside == set()
    assert set(python_files(*PACKAGES)) - inside == set()
    assert "afterglow/py.typed" in inside
    assert [name for name in inside if name.startswith(("tests/", "benchmarks/"))] == []


def _text(file: str | Path) -> str:
    return (ROOT / file).read_text(encoding="utf-8", errors="replace")
