"""Proving that a source is connected: what a shell is told to send is what the hook accepts, and does no harm."""

import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from afterglow import ROOT
from afterglow.connecting import curl, media_type, ping
from afterglow.language.source import read_source
from afterglow.mapping import Ignored
from afterglow.signatures import verify

NOW = datetime.now(UTC)
URL = "https://hooks.example/hooks/x"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # fits every scheme but basic
LOGIN = "afterglow:cafe-au-lait-and-a-password-that-makes-base64-longer-than-one-line-of-it"
FOLDER = ROOT / "flows" / "sources"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped(name):
    return read_source((FOLDER / f"{name}.yaml").read_text(), f"flows/sources/{name}.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_ping_of_a_shipped_source_is_let_go(name):
    _, trials = ping(shipped(name), now=NOW, known_events={})

    assert {type(trial.result) for trial in trials} == {Ignored}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("openssl")), reason="needs bash and openssl")
def test_what_is_pasted_into_a_shell_carries_a_signature_that_is_verified(name):
    source = shipped(name)
    assert source.auth != "none"
    body, _ = ping(source, now=NOW, known_events={})
    script = curl(source, URL, body)
    assert script is not None
    secret = LOGIN if source.auth.scheme == "basic" else SECRET
    assert secret not in script

    said = subprocess.run(
        ["bash", "-euc", 'curl() { printf "%s\\0" "$@"; }\n' + script],
        env={"PATH": "/usr/bin:/bin", source.auth.secrets[0]: f"{secret} an-older-secret"},
        capture_output=True,
        check=True,
    ).stdout.decode()

    words = said.split("\0")[:-1]
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    assert words[words.index("--data-binary") + 1].encode() == body
    assert URL in words
    assert headers["content-type"] == media_type(source)
    verify(source.auth.scheme, [secret], headers, body, datetime.now(UTC), uri=URL)


@pytest.mark.parametrize(
    ("each", "body"),
    [
        ("body", b'[{"type":"afterglow.ping"}]'),
        ("body.batch", b'{"batch":[{"type":"afterglow.ping"}]}'),
        ("body.data.events", b'{"data":{"events":[{"type":"afterglow.ping"}]}}'),
    ],
)
def test_a_source_that_divides_gets_a_list_where_it_looks_for_one(each, body):
    text = f"source: lists\nauth: none\neach: {each}\nkey: body.id\nevents:\n  - when: body.a == 1\n    ignore: so\n"
    source = read_source(text, "lists.yaml")

    sent, trials = ping(source, now=NOW)

    assert sent == body
    assert [type(trial.result) for trial in trials] == [Ignored]
    assert curl(source, URL, sent) == (
        f"body='{body.decode()}'\ncurl -i {URL} \\\n  -H \"content-type: application/json\" \\\n"
        '  --data-binary "$body"\n'
    )
