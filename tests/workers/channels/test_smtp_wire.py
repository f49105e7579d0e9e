"""What goes over the wire, as another server and a hostile one see it: TLS, login, dots, bytes."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from afterglow.mime import compose
from tests.ports import free_port
from tests.sample_mails import mail, mails
from workers.channels import NotBegun, Rejected, Sent, make_channel

PLENTY_S = 20.0


class Mailbox:
    """An aiosmtpd handler that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.got.append(envelope)
        return "250 OK"


class FromStart(Controller):
    """aiosmtpd with TLS from the first byte."""

    def __init__(self, handler: Mailbox, context: ssl.SSLContext) -> None:
        super().__init__(handler, hostname="127.0.0.1", port=free_port(), ssl_context=context)


def let_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me@shop", b"hunter2")
    return AuthResult(success=right, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for localhost: as a CA file, and as a server's context."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so that no test certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


@contextmanager
def running(controller: Controller) -> Iterator[int]:
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def test_another_server_gets_exactly_the_composed_bytes_dots_and_all() -> None:
    box = Mailbox()
    dotted = mail(3, text=".\r\n..\r\n.x\r\n\r\n.", html="x" * 990 + "\r\n." + "é" * 3_000)
    with running(Controller(box, hostname="127.0.0.1", port=free_port())) as port:
        channel = make_channel("smtp", f"smtp://127.0.0.1:{port}?tls=no")
        assert channel.send([mail(1), mail(2), dotted], PLENTY_S) == [Sent()] * 3
        channel.close()

    assert [envelope.content for envelope in box.got] == [
        compose(message, eightbit=True) for message in (mail(1), mail(2), dotted)
    ]
    assert [envelope.rcpt_tos for envelope in box.got] == [[f"customer{n}@example.com"] for n in (1, 2, 3)]
    assert {envelope.mail_from for envelope in box.got} == {"hello@northlight.example"}


def test_starttls_and_login_come_before_any_mail(certificate: tuple[Path, ssl.SSLContext]) -> None:
    ca, context = certificate
    box = Mailbox()
    options = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": let_in}
    with running(Controller(box, hostname="127.0.0.1", port=free_port(), **options)) as port:
        channel = make_channel("smtp", f"smtp+starttls://me%40shop:hunter2@localhost:{port}?ca={ca}")
        fates = channel.send(mails(2), PLENTY_S)
        channel.close()
        wrong = make_channel("smtp", f"smtp://me%40shop:wrong@localhost:{port}?ca={ca}").send(mails(2), PLENTY_S)
        without = make_channel("smtp", f"smtp://localhost:{port}?ca={ca}").send(mails(2), PLENTY_S)

    assert fates == [Sent(), Sent()]
    assert len(box.got) == 2
    assert [type(fate) for fate in wrong + without] == [NotBegun] * 4
    assert "535" in str(wrong[0])
    assert "hunter2" not in str(wrong)
    assert "login" in str(without[0])


def test_tls_from_the_first_byte_carries_mail(certificate: tuple[Path, ssl.SSLContext]) -> None:
    ca, context = certificate
    box = Mailbox()
    with running(FromStart(box, context)) as port:
        channel = make_channel("smtp", f"smtps://localhost:{port}?ca={ca}")
        fates = channel.send(mails(3), PLENTY_S) + channel.send(mails(3), PLENTY_S)
        channel.close()

    assert fates == [Sent()] * 6
    assert len(box.got) == 6


def test_a_certificate_nobody_vouches_for_gets_no_mail(certificate: tuple[Path, ssl.SSLContext]) -> None:
    box = Mailbox()
    with running(FromStart(box, certificate[1])) as port:
        fates = make_channel("smtp", f"smtps://localhost:{port}").send(mails(2), PLENTY_S)

    assert [type(fate) for fate in fates] == [NotBegun] * 2
    assert "TLS failed" in str(fates[0])
    assert not box.got


def test_a_relay_that_offers_no_starttls_gets_no_mail() -> None:
    box = Mailbox()
    with running(Controller(box, hostname="127.0.0.1", port=free_port())) as port:
        fates = make_channel("smtp", f"smtp://localhost:{port}").send(mails(2), PLENTY_S)

    assert [type(fate) for fate in fates] == [NotBegun] * 2
    assert "STARTTLS" in str(fates[0])
    assert not box.got


@contextmanager
def scripted(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that plays `script` to its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def play() -> None:
            connection, _ = listener.accept()
            with connection:
                script(connection)

        thread = threading.Thread(target=play)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(60)


def until(connection: socket.socket, end: bytes) -> bytes:
    heard = b""
    while not heard.endswith(end):
        chunk = connection.recv(65_536)
        if not chunk:
            return heard
        heard += chunk
    return heard


def test_words_slipped_in_before_tls_end_the_connection() -> None:
    def slips_in(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        until(connection, b"\r\n")
        connection.sendall(b"250-hello\r\n250 STARTTLS\r\n")
        until(connection, b"STARTTLS\r\n")
        connection.sendall(b"220 go\r\n250 slipped in\r\n")
        until(connection, b"never")

    with scripted(slips_in) as port:
        fates = make_channel("smtp", f"smtp://localhost:{port}").send(mails(1), PLENTY_S)

    assert isinstance(fates[0], NotBegun)
    assert "out of turn" in fates[0].reason


def test_a_mail_whose_final_dot_never_left_is_not_in_doubt() -> None:
    finished = threading.Event()

    def stops_listening(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(b"220 hello\r\n")
        until(connection, b"\r\n")
        connection.sendall(b"250-hello\r\n250 PIPELINING\r\n")
        until(connection, b"DATA\r\n")
        connection.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        finished.wait(60)

    huge = mail(1, html="coffee and more coffee\n" * 1_000_000)
    with scripted(stops_listening) as port:
        fates = make_channel("smtp", f"smtp://127.0.0.1:{port}?tls=no").send([huge, mail(2)], 3)
        finished.set()

    assert isinstance(fates[0], Rejected)
    assert not fates[0].permanent
    assert isinstance(fates[1], NotBegun)


def test_a_reply_without_end_is_given_up_instead_of_remembered() -> None:
    def babbles(connection: socket.socket) -> None:
        with connection:
            try:
                for _ in range(1_000):
                    connection.sendall(b"220-" + b"x" * 1_000 + b"\r\n")
            except OSError:
                return

    with scripted(babbles) as port:
        fates = make_channel("smtp", f"smtp://127.0.0.1:{port}?tls=no").send(mails(1), PLENTY_S)

    assert isinstance(fates[0], NotBegun)
    assert "does not end" in fates[0].reason
