"""A web server of somebody who wants to get at the sites: it serves pages, and writes down what it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

_ANSWER: Final = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nAccess-Control-Allow-Origin: *\r\n"
    "Content-Length: {}\r\nConnection: close\r\n\r\n"
)
NAMES: Final = ("evil.localhost", "127.0.0.1")
"""An origin of another site, and one of the same host as a site that was opened by its number."""


class Seen(NamedTuple):
    """A request: its target, and its head as it came."""

    target: str
    head: str


class Attacker:
    """Serves `page` at every path."""

    def __init__(self) -> None:
        self.page = ""
        self.seen: list[Seen] = []
        self.port = 0

    def origin(self, name: str) -> str:
        """The origin under one of the `NAMES`, or another name of this machine."""
        return f"http://{name}:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.seen.append(Seen(head.split(" ")[1], head))
            body = self.page.encode()
            writer.write(_ANSWER.format(len(body)).encode() + body)
            await writer.drain()


@contextlib.asynccontextmanager
async def attacking() -> AsyncIterator[Attacker]:
    """Let the attacker's server run in the block."""
    attacker = Attacker()
    server = await asyncio.start_server(attacker.answer, "127.0.0.1", 0)
    attacker.port = server.sockets[0].getsockname()[1]
    try:
        yield attacker
    finally:
        server.close()
