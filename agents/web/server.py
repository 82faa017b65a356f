"""The HTTP server under a site, in the agent's own event loop."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from .listen import Listen

_GRACE_S: Final = 5


class _Server(uvicorn.Server):
    """Leaves Ctrl-C to the agent that it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def served(app: Starlette, guarded: ASGIApp, listen: Listen) -> AsyncIterator[Listen]:
    """Serve a site for as long as the context lasts; live updates end with it.

    Args:
        app: the site; its `state.stopping` is set when it shall end.
        guarded: the same behind its guard.
        listen: where.

    Yields:
        Where it listens, with the port that it got.

    Raises:
        HomeError: if it cannot listen there.
    """
    app.state.stopping = asyncio.Event()
    bound = listen.bind()
    config = uvicorn.Config(
        guarded,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield listen._replace(port=bound.getsockname()[1])
    finally:
        app.state.stopping.set()
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        bound.close()
