"""Live updates: server-sent events (WHATWG HTML, 9.2) that put new parts into a page without a reload."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import StreamingResponse

PING_S: Final = 15.0
"""A comment is sent after so much silence, so that a reader who has left is noticed."""


class Update(NamedTuple):
    """New parts of a page by the ids of the elements that hold them; after a `done` one, no more come."""

    html: dict[str, str]
    title: str = ""
    done: bool = False


def stream(request: Request, updates: AsyncIterator[Update]) -> StreamingResponse:
    """Return a response that sends each update as it comes, until the last one or until the site stops.

    The site's app must have `state.stopping`, an `asyncio.Event`.
    """
    headers = {"X-Accel-Buffering": "no"}  # proxies must hand each event on at once
    sent = _sent(updates, request.app.state.stopping)
    return StreamingResponse(sent, media_type="text/event-stream", headers=headers)


async def _sent(updates: AsyncIterator[Update], stopping: asyncio.Event) -> AsyncIterator[str]:
    stopped = asyncio.create_task(stopping.wait())
    coming: asyncio.Task[Update] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(updates))
            await asyncio.wait({coming, stopped}, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            if not coming.done():
                yield ": still here\n\n"
                continue
            try:
                update = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield f"event: update\ndata: {json.dumps(update._asdict())}\n\n"
            if update.done:
                return
    finally:
        stopped.cancel()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming
        if isinstance(updates, AsyncGenerator):
            await updates.aclose()


async def _next(updates: AsyncIterator[Update]) -> Update:
    return await anext(updates)
