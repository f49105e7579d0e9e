"""The pages about sources say what the files do: secret, topics, events, and a curl that is signed right."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from afterglow import ROOT
from afterglow.language.source import Source, read_source
from afterglow.mapping import elements, map_element
from afterglow.signatures import sign, verify

PAGES = ROOT / "docs" / "sources"
SOURCES = {
    path.stem: read_source(path.read_text(), path.name) for path in sorted((ROOT / "flows/sources").glob("*.yaml"))
}
INDEX = (PAGES / "README.md").read_text()
#: A text in an expression that names a kind of request: two words or more with a point or a stroke between.
_TOPIC = re.compile(r"""["']([a-z][\w]*(?:[./][\w]+)+)["']""")
PUBLIC_URL = "https://crm.example/afterglow"


def topics(source: Source) -> Iterator[str]:
    """What the rules of a source listen to."""
    for rule in source.events:
        if rule.when is not None:
            yield from _TOPIC.findall(rule.when.expression.text)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_of_a_source_names_its_address_and_its_secret(name):
    source = SOURCES[name]
    assert f"/hooks/{name}`" in page(name)
    assert source.auth != "none"
    assert [variable for variable in source.auth.secrets if f"`{variable}`" not in page(name)] == []


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_of_a_source_names_everything_that_the_file_listens_to(name):
    assert [topic for topic in topics(SOURCES[name]) if f"`{topic}`" not in page(name)] == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_what_to_subscribe_and_its_page_names_that(name):
    text = page(name).lower()
    topics = [topic.partition(" (")[0].lower() for topic in SOURCES[name].topics]
    assert topics
    assert [topic for topic in topics if topic not in text and "`" + topic.replace(".", "` `") + "`" not in text] == []


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_of_a_source_names_every_event_that_it_brings(name):
    assert [event for event in sorted(SOURCES[name].event_names) if f"`{event}`" not in page(name)] == []


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_of_a_source_says_what_the_provider_never_tells_and_how_to_prove_it(name):
    headings = re.findall(r"^## (.*)$", page(name), re.MULTILINE)
    assert {"What it never tells", "Prove it"} <= set(headings)
    assert "curl" in page(name)


def test_the_index_has_a_row_for_every_source_and_no_other():
    rows = [line for line in INDEX.splitlines() if line.startswith("| [")]

    assert sorted(re.findall(r"\]\((\w+)\.md\)", "\n".join(rows))) == sorted(SOURCES)
    for name, source in SOURCES.items():
        (row,) = (row for row in rows if f"]({name}.md)" in row)
        assert f"`/hooks/{name}`" in row
        assert source.auth == "none" or all(f"`{variable}`" in row for variable in source.auth.secrets)


def test_the_pages_are_those_of_sources():
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *SOURCES}


SECRETS = {"standard_webhooks": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "basic": "afterglow:cafe-au-lait"}
_STAND_IN = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("name", SOURCES)
def test_the_curl_that_proves_a_source_is_signed_as_the_source_wants_and_says_something_that_it_knows(name, tmp_path):
    """Run as it stands on the page, with another program in curl's place."""
    source = SOURCES[name]
    auth = source.auth
    secret = SECRETS.get(auth.scheme, "a-secret-of-the-tests")
    (tmp_path / "curl").write_text(_STAND_IN)
    (tmp_path / "curl").chmod(0o755)
    [script] = re.findall(r"^```sh\n(BODY=.*?)```", page(name), re.MULTILINE | re.DOTALL)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "AFTERGLOW_PUBLIC_URL": PUBLIC_URL,
        **dict.fromkeys(auth.secrets, secret),
    }

    ran = subprocess.run(["sh", "-euc", script], env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    url, headers, body = request(json.loads(ran.stdout), auth.scheme, secret)
    now = datetime.now(UTC)
    assert url.partition("?")[0] == f"{PUBLIC_URL}/hooks/{name}"
    verify(auth.scheme, [secret], headers, body, now, uri=url)
    parts = elements(source, headers, body)
    assert parts
    for part in parts:
        assert map_element(source, headers, part.body, received_at=now, known_events={"review.posted": {}})


def request(arguments: list[str], scheme: str, secret: str) -> tuple[str, dict[str, str], bytes]:
    """(address, headers, body) of curl's arguments."""
    headers: dict[str, str] = {}
    address, body = "", b""
    words = iter(arguments)
    for word in words:
        match word:
            case "-i":
                pass
            case "-H":
                key, _, value = next(words).partition(": ")
                headers[key.lower()] = value
            case "-u":
                login = next(words)
                assert login == secret
                headers |= sign(scheme, login, b"", datetime.now(UTC), "")
            case "--data-binary":
                body = next(words).encode()
            case _:
                address = word
    return address, headers, body


def test_topics_are_found_in_the_rules():
    source = read_source((ROOT / "flows/sources/judgeme.yaml").read_text(), "judgeme.yaml")
    assert set(topics(source)) == {"review/created", "review/updated"}
