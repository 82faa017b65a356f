"""Live updates as a browser gets them, one after the other (httpx's transport hands a response on when it is whole)."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from starlette.types import Message

from tests.simulation.clock import VirtualClock

from .browser import ORIGIN, Browser

_T = TypeVar("_T")


async def updates(browser: Browser, path: str) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the updates of a stream until it ends."""
    request = browser.client.build_request("GET", path)
    came: asyncio.Queue[Message | None] = asyncio.Queue()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("127.0.0.1", 8090),
        "client": ("127.0.0.1", 1),
    }
    gone = asyncio.Event()
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def serve() -> None:
        try:
            await browser.guarded(scope, receive, came.put)
        finally:
            came.put_nowait(None)

    assert str(request.url).startswith(ORIGIN)
    serving = asyncio.create_task(serve())
    try:
        while (message := await came.get()) is not None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200, message
            for line in message.get("body", b"").decode().splitlines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
    finally:
        gone.set()
        await serving


async def in_time(awaited: Awaitable[_T], clock: VirtualClock) -> _T:
    """Let time pass until what is awaited is there."""
    task = asyncio.ensure_future(awaited)
    while not task.done():
        clock.advance(100)
        await asyncio.sleep(0.001)
    return await task
