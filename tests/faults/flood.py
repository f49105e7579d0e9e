"""A source that floods: far more than can be taken, badly signed, signed, large and trickling, in a process of its own.

python -m tests.faults.flood PORT SECONDS SECRET: posts to the loopback for so long and prints what it was answered.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
from collections import Counter
from typing import Any

SOURCE = "flood"
#: Connections that post small badly signed requests, signed ones of many elements, and large ones; and that trickle.
BAD, SIGNED, LARGE, TRICKLING = 100, 90, 16, 80
#: Elements of one signed request, and bytes of a large one.
ELEMENTS = 100
LARGE_BYTES = 200_000
#: How many large requests are signed, so that the disk is not filled; the others are not.
LARGE_SIGNED_MAX = 150
#: No connection posts more than this.
POSTS_MAX = 20_000


def request(path: str, body: bytes, key: str, secret: str) -> bytes:
    """A request with a Standard Webhooks signature by this secret, as it goes over the wire."""
    moment = str(int(time.time()))
    mac = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), f"{key}.{moment}.".encode() + body, "sha256")
    head = (
        f"POST /hooks/{path} HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nwebhook-id: {key}\r\nwebhook-timestamp: {moment}\r\n"
        f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\n\r\n"
    )
    return head.encode() + body


def elements(connection: int, number: int) -> bytes:
    """A body of many elements that were never posted before."""
    return b"[" + b",".join(b'{"id":"%d-%d-%d"}' % (connection, number, n) for n in range(ELEMENTS)) + b"]"


class Flood:
    """What is posted, and what came back."""

    def __init__(self, port: int, seconds: float, secret: str) -> None:
        self.port = port
        self.ends = time.monotonic() + seconds
        self.secret = secret
        #: How many requests of each kind were answered how.
        self.answers: Counter[str] = Counter()
        #: 503s without Retry-After.
        self.silent = 0
        #: Digests of signed requests that were accepted: (connection, number).
        self.accepted: list[tuple[str, int, int]] = []

    async def run(self) -> dict[str, Any]:
        """Flood until the time is over."""
        work = [self._post("bad", n) for n in range(BAD)]
        work += [self._post("signed", n) for n in range(SIGNED)]
        work += [self._post("large", n) for n in range(LARGE)]
        work += [self._trickle() for _ in range(TRICKLING)]
        await asyncio.gather(*work)
        return {"answers": dict(self.answers), "silent": self.silent, "accepted": self.accepted}

    async def _post(self, kind: str, connection: int) -> None:
        reader: asyncio.StreamReader | None = None
        for number in range(POSTS_MAX):
            if time.monotonic() > self.ends:
                break
            wire = self._wire(kind, connection, number)
            try:
                if reader is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(wire)
                head = await reader.readuntil(b"\r\n\r\n")
                status = head[9:12].decode()
                lines = head.lower()
                length = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.answers[f"{kind} {type(error).__name__}"] += 1
                reader = None
                await asyncio.sleep(0.05)
                continue
            self.answers[f"{kind} {status}"] += 1
            if status == "503" and b"retry-after: " not in lines:
                self.silent += 1
            if status == "202":
                self.accepted.append((kind, connection, number))
            if b"connection: close" in lines:
                writer.close()
                reader = None
        if reader is not None:
            writer.close()

    def _wire(self, kind: str, connection: int, number: int) -> bytes:
        wrong = "whsec_" + base64.b64encode(hashlib.sha256(b"wrong").digest()).decode()
        match kind:
            case "bad":
                return request(SOURCE, elements(connection, number), f"b{connection}-{number}", wrong)
            case "signed":
                return request(SOURCE, elements(connection, number), f"s{connection}-{number}", self.secret)
        is_signed = self.answers["large 202"] < LARGE_SIGNED_MAX
        body = json.dumps([{"id": f"large-{connection}-{number}", "padding": "x" * LARGE_BYTES}]).encode()
        return request(SOURCE, body, f"l{connection}-{number}", self.secret if is_signed else wrong)

    async def _trickle(self) -> None:
        """Begin a body of the largest size and let it come by a byte a second; begin again when it is refused."""
        while time.monotonic() < self.ends:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"POST /hooks/{SOURCE} HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n".encode())
                while time.monotonic() < self.ends:
                    writer.write(b"x")
                    await writer.drain()
                    answer = asyncio.create_task(reader.read(12))
                    done, _ = await asyncio.wait([answer], timeout=1)
                    if done:
                        self.answers[f"trickling {answer.result()[9:12].decode() or 'closed'}"] += 1
                        break
                    answer.cancel()
                writer.close()
            except OSError as error:
                self.answers[f"trickling {type(error).__name__}"] += 1
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    port, seconds, secret = sys.argv[1:]
    print(json.dumps(asyncio.run(Flood(int(port), float(seconds), secret).run())))
