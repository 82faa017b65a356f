import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agents.home import HomeError
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
