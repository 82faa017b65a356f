"""The HTTP server under a site, in the agent's own event loop."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .listen import Listen

_GRACE_S: Final = 5
_IDLE_S: Final = 30
HEAD_S: Final = 10.0
"""How long a connection may take to send the head of a request, in seconds."""
MOST_CONNECTIONS: Final = 512
"""More than so many connections are closed at once: what else the agent opens needs files, too."""


class _Protocol(H11Protocol):
    """Hangs up on those who connect and do not say what they want."""

    _hanging_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._mind()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._mind()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_be()
        super().connection_lost(exc)

    def _mind(self) -> None:
        """Have a timer run as long as the head of a request has begun to come, and is not there."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._let_be()
        elif self._hanging_up is None and not self.transport.is_closing():
            self._hanging_up = self.loop.call_later(HEAD_S, self.transport.close)

    def _let_be(self) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
            self._hanging_up = None


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
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
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
