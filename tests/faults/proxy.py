"""An HTTP proxy in front of an S3 server that does what networks and servers do on bad days, by a seeded plan."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

# "reset" cuts the connection before the server hears of the request or before its answer gets back; "flipped" turns
# one bit of the answer's body, "flipped upload" one of the request's.
FAULTS = ("503", "500", "reset", "delay", "truncated", "flipped", "flipped upload")
_ANSWERS = {
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "skewed": (403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."),
    "denied": (403, "AccessDenied", "Access Denied"),
}


class FaultProxy:
    """Passes requests on to `upstream`, some of them with a fault; `injected` counts those by kind."""

    def __init__(self, upstream: str):
        self._upstream = urlsplit(upstream)
        self.injected: Counter[str] = Counter()
        self.endpoint = ""
        self.be_healthy()

    def inject(self, faults: Sequence[str], share: float, seed: int = 0, only: str = "") -> None:
        """From now on a share of the requests gets one of the faults; `only` those whose first line has that text."""
        self._faults, self._share, self._only = faults, share, only
        self._random = random.Random(seed)

    def be_healthy(self) -> None:
        """From now on no faults."""
        self.inject((), 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, request after request."""
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is still good."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(_header(head, b"content-length") or 0))
        fault = self._draw(head, body)
        if fault in _ANSWERS:
            writer.write(_answer(*_ANSWERS[fault], with_body=not head.startswith(b"HEAD")))
            return self._count(fault)
        if fault == "reset" and self._random.random() < 0.5:
            return self._reset(writer)
        if fault == "delay":
            self._count(fault)
            await asyncio.sleep(self._random.uniform(0.05, 0.5))
        if fault == "flipped upload":
            self._count(fault)
            body = self._flip(body)
        answer_head, answer = await self._ask(head, body)
        if fault == "reset":
            return self._reset(writer)
        if fault == "flipped" and answer:
            self._count(fault)
            answer = self._flip(answer)
        if fault == "truncated" and answer:
            writer.write(answer_head + answer[: len(answer) // 2])
            return not self._count(fault)
        writer.write(answer_head + answer)
        await writer.drain()
        return True

    def _draw(self, head: bytes, body: bytes) -> str:
        if self._only.encode() not in head.split(b"\r\n", 1)[0] or self._random.random() >= self._share:
            return ""
        fault = self._random.choice(self._faults)
        return "" if fault == "flipped upload" and not body else fault

    def _count(self, fault: str) -> bool:
        self.injected[fault] += 1
        return True

    def _reset(self, writer: asyncio.StreamWriter) -> bool:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return not self._count("reset")

    def _flip(self, content: bytes) -> bytes:
        place = self._random.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << self._random.randrange(8)
        return bytes(flipped)

    async def _ask(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The server's answer: its head, fit for a connection that stays open, and its body."""
        assert self._upstream.port is not None
        reader, writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        writer.write(_without(head, b"expect", b"connection")[:-2] + b"Connection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        answer_head, _, content = answer.partition(b"\r\n\r\n")
        return _without(answer_head + b"\r\n\r\n", b"connection"), content


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy on a free port of loopback, in a thread of its own."""
    proxy = FaultProxy(upstream)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20))
    host, port = server.sockets[0].getsockname()
    proxy.endpoint = f"http://{host}:{port}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


def _without(head: bytes, *names: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names)


def _answer(status: int, code: str, message: str, with_body: bool) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return head + body if with_body else head
