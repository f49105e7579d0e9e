"""Serving both faces in one process: in the main thread of `afterglow web`, or in a thread of `run` and `demo`."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from afterglow.errors import AfterglowError
from db.app import App
from web.app import Faces
from web.security import check_private_bind, parse_bind

log = structlog.get_logger()

#: How long requests may take to end after a stop, in seconds.
GRACE_S: Final = 10
#: The longest request line and headers, in bytes; and how long they may take to come, in seconds, at most twice.
HEAD_MAX: Final = 64 * 1024
HEAD_S: Final = 10.0


class AddressTakenError(AfterglowError):
    """An address cannot be listened on."""


class _Server(uvicorn.Server):
    """A server that leaves signals to us: there are two in one process, and it may not be the main thread."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are longer than anybody's need to be.

    The server itself keeps whatever comes until they are complete.
    """

    #: Whether a head has begun and is not complete, and its bytes so far.
    in_head = False
    _head = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.in_head:
            self._head += len(data)
            if self._head > HEAD_MAX:
                self.transport.close()
        elif self._head:
            self._head = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = True

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()


class _Heads:
    """Closes connections whose head does not come: looked for now and then, so that no request pays for it."""

    def __init__(self, connections: Callable[[], Iterable[object]]) -> None:
        self._connections = connections
        #: The heads that were incomplete at the last look, by connection.
        self._before: dict[object, object] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(HEAD_S)
            self.look()

    def look(self) -> None:
        """Close whoever still lacks the head that it lacked at the last look."""
        lacking: dict[object, object] = {
            connection: connection.scope
            for connection in list(self._connections())
            # One that waits for its next request has the server's own limit for staying open.
            if isinstance(connection, _Protocol) and (connection.in_head or connection.scope is None)
        }
        for connection, head in lacking.items():
            if connection in self._before and self._before[connection] is head:
                connection.transport.close()  # type: ignore[attr-defined]
        self._before = lacking


class WebServer:
    """Both faces, listening from the moment it is made; `run` serves until `stop`."""

    def __init__(self, app: App, *, shared: bool = False) -> None:
        """Take both addresses.

        Args:
          shared: let other processes listen on the same ports; the kernel divides the connections among them.

        Raises:
          SettingsError: when an address cannot be understood, or the private face would be open to everybody.
          AddressTakenError: when somebody else listens there.
        """
        check_private_bind(app.settings)
        self._faces = Faces(app)
        self._sockets: list[socket.socket] = []
        try:
            for setting, bind in (
                ("AFTERGLOW_PUBLIC_BIND", app.settings.public_bind),
                ("AFTERGLOW_PRIVATE_BIND", app.settings.private_bind),
            ):
                self._sockets.append(_listen(setting, bind, shared=shared))
        except AfterglowError:
            self.close()
            raise
        self._servers = [_Server(_config(face)) for face in (self._faces.public, self._faces.private)]
        #: Where it is reached from this machine, the real ports in place of 0.
        self.public_url, self.private_url = (_url(each) for each in self._sockets)

    def run(self, ready: threading.Event | None = None) -> None:
        """Serve until `stop`, in the main thread also until SIGINT or SIGTERM. Requests under way are answered."""
        try:
            with asyncio.Runner(loop_factory=self._servers[0].config.get_loop_factory()) as runner:
                runner.run(self._serve(ready))
        finally:
            self.close()

    def stop(self) -> None:
        """Ask it to end; from any thread."""
        for server in self._servers:
            server.should_exit = True

    def close(self) -> None:
        """Commit what still waits and let go of the addresses; `run` does so at its end."""
        self._faces.close()
        for listener in self._sockets:
            listener.close()

    def _connections(self) -> Iterator[object]:
        for server in self._servers:
            yield from server.server_state.connections

    async def _serve(self, ready: threading.Event | None) -> None:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread:
            for each in signals:
                loop.add_signal_handler(each, self.stop)
        serving = [
            asyncio.create_task(server.serve([listener]))
            for server, listener in zip(self._servers, self._sockets, strict=True)
        ]
        heads = asyncio.create_task(_Heads(self._connections).run())
        while not all(server.started for server in self._servers) and not any(task.done() for task in serving):
            await asyncio.sleep(0.01)
        if ready is not None:
            ready.set()
        try:
            await asyncio.gather(*serving)
        finally:
            heads.cancel()
            self.stop()
            if in_main_thread:
                for each in signals:
                    loop.remove_signal_handler(each)


def serve(
    app: App, *, ready: threading.Event | None = None, stop: threading.Event | None = None, shared: bool = False
) -> None:
    """Serve both faces until `stop` is set (or, in the main thread, a signal comes)."""
    server = WebServer(app, shared=shared)
    if stop is not None:
        threading.Thread(target=_stop_when, args=(stop, server), name="stop-web", daemon=True).start()
    server.run(ready)


def _stop_when(stop: threading.Event, server: WebServer) -> None:
    stop.wait()
    server.stop()


def _config(face: object) -> uvicorn.Config:
    return uvicorn.Config(
        face,  # type: ignore[arg-type]
        http=_Protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # who is loopback is decided by the connection, never by a header
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
    )


def _listen(setting: str, bind: str, *, shared: bool) -> socket.socket:
    host, port = parse_bind(bind)
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        reason = error.strerror or str(error)
        raise AddressTakenError(
            f"Nothing can listen on {bind} ({reason}); free it, or set {setting} to another address."
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
