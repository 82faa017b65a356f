import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agents.home import HomeError
from agents.web import server
from agents.web.events import Update, stream
from agents.web.listen import Listen
from agents.web.server import served

ANY = Listen("127.0.0.1", 0)


class Live:
    """A site with a page and a stream of updates that somebody else feeds."""

    def __init__(self) -> None:
        self.updates: asyncio.Queue[Update] = asyncio.Queue()
        self.ended = asyncio.Event()
        routes = [Route("/", self._page), Route("/events", self._events)]
        self.app = Starlette(routes=routes)

    async def _page(self, _: Request) -> Response:
        return PlainTextResponse("here")

    async def _events(self, request: Request) -> Response:
        return stream(request, self._all())

    async def _all(self) -> AsyncIterator[Update]:
        try:
            while True:
                yield await self.updates.get()
        finally:
            self.ended.set()


async def lines_of(response: httpx.Response) -> AsyncIterator[dict[str, object]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def test_a_site_is_served_until_the_context_ends() -> None:
    live = Live()
    async with served(live.app, live.app, ANY) as listen, httpx.AsyncClient() as browser:
        assert (await browser.get(f"http://{listen}/")).text == "here"
        with pytest.raises(HomeError, match="choose another port"):
            async with served(live.app, live.app, listen):
                pass
    async with httpx.AsyncClient() as browser:
        with pytest.raises(httpx.ConnectError):
            await browser.get(f"http://{listen}/")


async def test_updates_come_as_they_are_made_until_the_last_one() -> None:
    live = Live()
    async with served(live.app, live.app, ANY) as listen, httpx.AsyncClient() as browser:
        async with browser.stream("GET", f"http://{listen}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            coming = lines_of(response)
            live.updates.put_nowait(Update({"state": "<b>paid</b>"}))
            assert await anext(coming) == {"html": {"state": "<b>paid</b>"}, "title": "", "done": False}
            live.updates.put_nowait(Update({}, done=True))
            assert (await anext(coming))["done"] is True
            assert [one async for one in coming] == []
        await live.ended.wait()


async def test_a_site_that_stops_ends_its_streams() -> None:
    live = Live()
    async with httpx.AsyncClient() as browser:
        async with served(live.app, live.app, ANY) as listen:
            response = await browser.send(browser.build_request("GET", f"http://{listen}/events"), stream=True)
            live.updates.put_nowait(Update({"a": "b"}))
            coming = lines_of(response)
            await anext(coming)
        assert [one async for one in coming] == []
    await live.ended.wait()


async def test_a_reader_who_leaves_is_noticed() -> None:
    live = Live()
    async with served(live.app, live.app, ANY) as listen:
        async with httpx.AsyncClient() as browser, browser.stream("GET", f"http://{listen}/events") as response:
            live.updates.put_nowait(Update({"a": "b"}))
            await anext(lines_of(response))
        await live.ended.wait()


async def nothing_more(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(120):
        return await reader.read()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_who_does_not_say_what_they_want_is_hung_up_on(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    app = Live().app
    async with served(app, app, ANY) as listen:
        reader, writer = await asyncio.open_connection(*listen)
        writer.write(begun)
        assert await nothing_more(reader) == b""
        writer.close()


async def test_a_second_request_must_come_in_time_too_and_a_long_answer_may_take_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    live = Live()
    async with served(live.app, live.app, ANY) as listen:
        reader, writer = await asyncio.open_connection(*listen)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /")
        assert not (await nothing_more(reader)).startswith(b"HTTP")
        writer.close()
        reader, writer = await asyncio.open_connection(*listen)
        writer.write(b"GET /events HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n")
        asyncio.get_running_loop().call_later(0.8, live.updates.put_nowait, Update({"state": "late"}, done=True))
        assert b"late" in await nothing_more(reader)
        writer.close()


async def test_more_connections_than_there_may_be_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    app = Live().app
    async with served(app, app, ANY) as listen:
        held = [await asyncio.open_connection(*listen) for _ in range(3)]
        with contextlib.suppress(ConnectionResetError):
            assert await nothing_more(held[2][0]) == b""
        assert not held[0][0].at_eof()
        for _, writer in held:
            writer.close()
