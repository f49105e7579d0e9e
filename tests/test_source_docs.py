"""The pages about sources: what they tell people to type is true."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from afterglow import ROOT
from afterglow.language.source import read_source
from afterglow.mapping import elements, map_element
from afterglow.signatures import verify

PAGES = sorted((ROOT / "docs" / "sources").glob("*.md"))
PUBLIC = "https://crm.example/afterglow"
SECRET = "0123456789-abcdefghij"
#: In place of the real one: writes down what it would post.
CURL = 'curl() { for word in "$@"; do printf \'%s\\0\' "$word"; done; }\n'


def source_of(page):
    file = ROOT / "flows" / "sources" / f"{page.stem}.yaml"
    return read_source(file.read_text(), str(file))


def posted_by(command, variable):
    """The address, headers and body of what the page's command posts."""
    environment = {"PATH": os.environ["PATH"], "AFTERGLOW_PUBLIC_URL": PUBLIC, variable: SECRET}
    run = subprocess.run(["bash", "-c", CURL + command], env=environment, capture_output=True, check=True)
    words = [word.decode() for word in run.stdout.split(b"\0")[:-1]]
    headers = [words[place + 1].partition(": ") for place, word in enumerate(words) if word == "-H"]
    [body] = [words[place + 1] for place, word in enumerate(words) if word == "-d"]
    [uri] = [word for word in words if word.startswith("http")]
    return uri, {name.lower(): value for name, _, value in headers}, body.encode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_that_proves_a_source_is_signed_and_maps(page):
    assert shutil.which("openssl"), "openssl is needed to try what the pages tell people to type"
    source, text = source_of(page), page.read_text()
    [command] = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert source.auth != "none"
    uri, headers, body = posted_by(command, source.auth.secrets[0])
    now = datetime.now(UTC)

    verify(source.auth.scheme, [SECRET], headers, body, now, uri=uri)
    assert urlsplit(uri).path == f"/afterglow/hooks/{source.name}"
    [element] = elements(source, headers, body)
    assert map_element(source, headers, element.body, received_at=now)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_address_the_secrets_and_what_is_never_told(page):
    source, text = source_of(page), page.read_text()

    assert f"/hooks/{source.name}" in text
    assert source.auth != "none"
    assert all(f"`{variable}`" in text for variable in source.auth.secrets)
    assert "never tell you" in text
