"""Live updates: server-sent events (WHATWG HTML, 9.2) that put new parts into a page without a reload."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PING_S: Final = 15.0
"""A comment is sent after so much silence, so that a reader who has left is noticed."""


class Update(NamedTuple):
    """New parts of a page by the ids of the elements that hold them; after a `done` one, no more come."""

    html: dict[str, str]
    title: str = ""
    done: bool = False


class _Stream(StreamingResponse):
    at_end: Callable[[], object] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.at_end is not None:
                self.at_end()


def stream(
    request: Request, updates: AsyncIterator[Update], at_end: Callable[[], object] | None = None
) -> StreamingResponse:
    """Return a response that sends each update as it comes, until the last one or until the site stops.

    The site's app must have `state.stopping`, an `asyncio.Event`.

    Args:
        request: what asks for it.
        updates: what is sent.
        at_end: is called once when it is over, even if nobody has stayed for the first update.
    """
    headers = {"X-Accel-Buffering": "no"}  # proxies must hand each event on at once
    sent = _sent(updates, request.app.state.stopping)
    response = _Stream(sent, media_type="text/event-stream", headers=headers)
    response.at_end = at_end
    return response


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
