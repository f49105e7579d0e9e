"""A CRM's API for tests: it speaks HubSpot's CRM v3 objects, counts who asks when, and misbehaves as it is told.

with crm_api() as crm:
    crm.deals["9"] = {"amount": "40.50"}
    crm.contacts["17"] = {"email": "sam@example.com"}
    crm.of_deal["9"] = ["17"]
    crm.faults += ["500", "429 retry-after=2"]   # the next requests, one each; `crm.always` means every request

Faults: a status with an optional `retry-after=`, and

    hang             the request taken, and silence
    hang-mid-body    half of the document, and silence
    drip             a byte of the document every 100 ms
    huge             a document of several MB, its length told
    endless          chunks without end
    html             a page instead of a document, with status 200
    redirect         elsewhere, by 302
    zipped           a document in an encoding that nobody asked for
    deep             JSON nested deeper than anybody writes
    garbage          something that is not HTTP
    close            the connection closed without an answer
    slow=0.3         the document, after so many seconds
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "pat-of-the-tests"
ZIPPED = gzip.compress(b'{"a": "' + b"x" * 5_000_000 + b'"}', 9)


class Asked(NamedTuple):
    """One request: when it came (time.monotonic), and for what."""

    at: float
    path: str


@dataclass
class CrmApi:
    """What the CRM holds, and what was asked of it."""

    deals: dict[str, dict[str, str]] = field(default_factory=dict)
    contacts: dict[str, dict[str, str]] = field(default_factory=dict)
    of_deal: dict[str, list[str]] = field(default_factory=dict)
    #: Contact ids that were merged into another.
    merged: dict[str, str] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    always: str = ""
    token: str = TOKEN
    asked: list[Asked] = field(default_factory=list)
    #: Connections that were ever opened, and the most that were open at once.
    connections: int = 0
    open_max: int = 0
    base: str = ""
    _open: int = 0

    def paths(self) -> list[str]:
        """What was asked for, without queries, in order."""
        return [asked.path.partition("?")[0].removeprefix("/crm/v3/objects/") for asked in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self._open += 1
        self.open_max = max(self.open_max, self._open)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        self._open -= 1
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.splitlines()
        target = line.split()[1]
        self.asked.append(Asked(time.monotonic(), target))
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest if one)}
        fault = self.faults.popleft() if self.faults else self.always
        return await self._misbehave(fault, writer, target, headers)

    async def _misbehave(self, fault: str, writer: asyncio.StreamWriter, target: str, headers: dict[str, str]) -> bool:
        status, document = self._look_up(target, headers)
        body = json.dumps(document).encode()
        word, _, wish = fault.partition(" ")
        if word.isdigit():
            further = f"Retry-After: {wish.removeprefix('retry-after=')}\r\n" if wish else ""
            error = {"status": "error", "message": "sam@example.com is no business of a log"}
            writer.write(_http(int(word), json.dumps(error).encode(), further))
        elif fault == "hang":
            await asyncio.sleep(3600)
        elif fault == "hang-mid-body":
            writer.write(_http(status, body)[: -len(body) // 2])
            await writer.drain()
            await asyncio.sleep(3600)
        elif fault == "drip":
            for byte in _http(status, body):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        elif fault == "huge":
            writer.write(_http(200, b'{"a": "' + b"x" * 3_000_000 + b'"}'))
        elif fault == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"400\r\n" + b"[" * 1024 + b"\r\n")
                await writer.drain()
        elif fault == "html":
            writer.write(_http(200, b"<h1>Maintenance</h1>", kind="text/html"))
        elif fault == "redirect":
            writer.write(_http(302, b"{}", f"Location: {self.base}/elsewhere\r\n"))
        elif fault == "zipped":
            writer.write(_http(200, ZIPPED, "Content-Encoding: gzip\r\n"))
        elif fault == "deep":
            writer.write(_http(200, b'{"a":' * 100 + b"1" + b"}" * 100))
        elif fault == "garbage":
            writer.write(b"220 this is a relay\r\n\r\n")
        elif fault == "close":
            return False
        else:
            if fault.startswith("slow="):
                await asyncio.sleep(float(fault.removeprefix("slow=")))
            writer.write(_http(status, body))
        await writer.drain()
        return True

    def _look_up(self, target: str, headers: dict[str, str]) -> tuple[int, Any]:
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"status": "error", "category": "INVALID_AUTHENTICATION"}
        url = urlsplit(target)
        *_, kind, id_ = url.path.split("/")
        id_ = unquote(id_)
        query = parse_qs(url.query)
        wanted = query.get("properties", [""])[0].split(",")
        id_ = self.merged.get(id_, id_) if kind == "contacts" else id_
        held = {"deals": self.deals, "contacts": self.contacts}.get(kind, {})
        if id_ not in held:
            return 404, {"status": "error", "message": "resource not found"}
        properties = {"hs_object_id": id_, **{name: held[id_].get(name) for name in wanted if name}}
        document = {"id": id_, "properties": properties, "createdAt": "2026-03-01T09:00:00Z", "archived": False}
        if "contacts" in query.get("associations", []):
            results = [{"id": one, "type": "deal_to_contact"} for one in self.of_deal.get(id_, [])]
            document |= {"associations": {"contacts": {"results": results}}} if results else {}
        return 200, document


def _http(status: int, body: bytes, further: str = "", kind: str = "application/json;charset=utf-8") -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{further}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


@contextmanager
def crm_api() -> Iterator[CrmApi]:
    """The API on a free port of this machine, in a thread of this process."""
    crm = CrmApi()
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = await asyncio.start_server(crm.serve, "127.0.0.1", 0)
        crm.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        with suppress(asyncio.CancelledError):
            await server.serve_forever()

    def live() -> None:
        asyncio.set_event_loop(loop)
        with suppress(RuntimeError):
            loop.run_until_complete(run())

    thread = threading.Thread(target=live, name="crm", daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield crm
    finally:
        loop.call_soon_threadsafe(_cancel_all, loop)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


#: A source of the shape of HubSpot's: a change carries the id of its object and nothing of the customer.
SOURCE = """\
source: crm
auth: none
key: body.eventId | text
fetch:
  base: BASE
  token: CRM_TOKEN
  rate: {at_most: 1000, within: 20 seconds}  # four seconds late is in time still, on a slow machine
  deadline: 2 seconds
  documents:
    - name: deal
      when: body.subscriptionType == "deal.propertyChange"
      path: /crm/v3/objects/deals/{{ body.objectId }}?properties=amount&associations=contacts
    - name: contact
      path: >-
        /crm/v3/objects/contacts/{{ fetched.deal.associations.contacts.results[0].id
        | default(body.objectId) }}?properties=email,firstname
events:
  - when: body.subscriptionType == "contact.deletion"
    ignore: A contact was deleted.
  - when: body.subscriptionType == "deal.propertyChange" and fetched.deal is none
    ignore: The deal was deleted meanwhile.
  - when: body.subscriptionType == "deal.propertyChange"
    event: order.paid
    customer:
      id: fetched.contact.id
      email: fetched.contact.properties.email
      first_name: fetched.contact.properties.firstname
    payload:
      order: {id: body.objectId | text, total: fetched.deal.properties.amount | number}
  - event: ping.one
    customer: {id: fetched.contact.id, email: fetched.contact.properties.email}
    payload: {n: body.eventId | number}
"""
