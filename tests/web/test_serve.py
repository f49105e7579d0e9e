"""Both faces on real sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from afterglow import ROOT
from db.tables import inbox
from tests.web.conftest import SECRET, SHOPIFY_SECRET, rows
from tests.web.test_hooks import signed
from web import serve
from web.hooks import BODY_MAX
from web.serve import AddressTakenError, WebServer

ANYWHERE = {"public_bind": "127.0.0.1:0", "private_bind": "127.0.0.1:0"}


@pytest.fixture
def app(opened):
    return opened(**ANYWHERE)


@contextmanager
def running(app, **options):
    server = WebServer(app, **options)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready,))
    thread.start()
    try:
        assert ready.wait(30)
        yield server
    finally:
        server.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_it_serves_from_a_thread_on_ports_of_its_own(app):
    with running(app) as server, httpx.Client() as http:
        accepted = http.post(f"{server.public_url}/hooks/shopify", content=b"{}", headers=signed(b"{}"))
        private = http.get(f"{server.private_url}/docs")
        hidden = http.get(f"{server.public_url}/docs")

    assert (accepted.status_code, private.status_code, hidden.status_code) == (202, 200, 404)
    assert "server" not in accepted.headers
    assert len(rows(app, inbox)) == 1
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", httpx.URL(server.public_url).port), timeout=5)


def test_a_large_body_is_refused_in_words_before_it_is_read(app):
    with running(app) as server:
        port = httpx.URL(server.public_url).port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"POST /hooks/shopify HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (BODY_MAX + 1))
            answer = raw.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 256 KB" in answer


def test_a_body_in_pieces_without_a_length_is_taken(app):
    with running(app) as server:
        pieces = iter([b'{"a":', b" 1}"])
        headers = signed(b'{"a": 1}')
        answer = httpx.post(f"{server.public_url}/hooks/shopify", content=pieces, headers=headers)

    assert answer.status_code == 202
    assert [row.body for row in rows(app, inbox)] == [b'{"a": 1}']


def test_an_address_in_use_is_said_with_the_setting_to_change(app, opened):
    with running(app) as server:
        taken = server.public_url.removeprefix("http://")
        with pytest.raises(AddressTakenError, match="AFTERGLOW_PUBLIC_BIND"):
            WebServer(opened(**{**ANYWHERE, "public_bind": taken}))


def test_several_processes_may_share_a_port(app, opened):
    first = WebServer(app, shared=True)
    taken = first.public_url.removeprefix("http://")

    second = WebServer(opened(**{**ANYWHERE, "public_bind": taken}), shared=True)

    assert second.public_url == first.public_url
    first.close()
    second.close()


SERVE = """
from db.app import open_app
from db.settings import load_settings
from web.serve import WebServer

server = WebServer(open_app(load_settings()))
print(server.public_url, flush=True)
server.run()
print("ended", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_main_thread_after_the_last_answer(app, url, how):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AFTERGLOW_DATABASE_URL": url,
        "AFTERGLOW_SECRET": SECRET,
        "AFTERGLOW_PUBLIC_BIND": "127.0.0.1:0",
        "AFTERGLOW_PRIVATE_BIND": "127.0.0.1:0",
        "SHOPIFY_WEBHOOK_SECRET": SHOPIFY_SECRET,
    }
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True, env=environment) as process:
        public_url = process.stdout.readline().strip()
        headers = signed(b"{}")
        answer = httpx.post(f"{public_url}/hooks/shopify", content=b"{}", headers=headers, timeout=30)
        process.send_signal(how)
        rest, _ = process.communicate(timeout=30)

    assert answer.status_code == 202
    assert rest.endswith("ended\n")
    assert process.returncode == 0
    assert len(rows(app, inbox)) == 1


def test_a_head_without_an_end_is_cut_off(app):
    with running(app) as server:
        port = httpx.URL(server.public_url).port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"POST /hooks/shopify HTTP/1.1\r\n")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                raw.sendall((b"x-more: " + b"y" * 1000 + b"\r\n") * 10_000)


def test_a_head_that_does_not_come_is_not_waited_for_and_a_slow_one_is(app, monkeypatch):
    monkeypatch.setattr(serve, "HEAD_S", 0.5)
    with running(app) as server:
        address = ("127.0.0.1", httpx.URL(server.public_url).port)
        with (
            socket.create_connection(address, timeout=10) as mute,
            socket.create_connection(address, timeout=10) as slow,
            httpx.Client() as kept,
        ):
            assert kept.get(f"{server.public_url}/health").status_code == 200
            slow.sendall(b"GET /health HTTP/1.1\r\n")
            assert mute.recv(1) == b""
            assert slow.recv(1) == b""
            assert kept.get(f"{server.public_url}/health").status_code == 200
            monkeypatch.setattr(serve, "HEAD_S", 60)
            with socket.create_connection(address, timeout=60) as late:
                late.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
                time.sleep(0.2)
                late.sendall(b"\r\n")
                assert late.recv(12) == b"HTTP/1.1 200"


def test_a_large_body_for_nobody_is_refused_and_the_connection_goes_on(app):
    with running(app) as server, httpx.Client() as http:
        answers = [http.post(f"{server.public_url}/hooks/nobody", content=b"x" * 200_000) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404] * 3
