"""The gate: pages that ask for a secret first, and forms that only they can send."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from .events import Update, stream
from .forms import Form, form_of, local_path
from .guard import SAFE
from .pages import Pages
from .sessions import Flash, Session, Sessions, is_genuine

SEE_OTHER: Final = 303


class Visit(NamedTuple):
    """A request in a session; `form` holds the fields if it is a POST, whose token was checked."""

    request: Request
    session: Session
    form: Form

    def onward(self, path: str, text: str = "", kind: str = "good") -> Response:
        """Return the answer to a form: go on to another page, which says so."""
        if text:
            self.session.flash = Flash("bad" if kind == "bad" else "info" if kind == "info" else "good", text)
        return RedirectResponse(path, SEE_OTHER)

    def watch(self, updates: AsyncIterator[Update]) -> StreamingResponse:
        """Return a live update, which tells nothing more once the session is over."""
        return stream(self.request, _while_in(self.session, updates))


async def _while_in(session: Session, updates: AsyncIterator[Update]) -> AsyncIterator[Update]:
    try:
        async for update in updates:
            if session.over:
                return
            yield update
    finally:
        if isinstance(updates, AsyncGenerator):
            await updates.aclose()


Handler: TypeAlias = Callable[[Visit], Awaitable[Response]]
Check: TypeAlias = Callable[[str], Awaitable[str]]
"""Takes the secret that was typed; returns "" if it is the right one, or a sentence that says what is wrong."""


class Words(NamedTuple):
    """What the page that asks for the secret says."""

    heading: str
    label: str
    hint: str
    action: str


class Gate:
    """Asks for a secret before it lets anybody to the pages behind it.

    Args:
        pages, sessions: the site's.
        check: judges the secret.
        words: what the page says; `action` is the path that it is at, such as `/unlock`.
        home: where to go on to, unless a page was asked for.
    """

    def __init__(self, pages: Pages, sessions: Sessions, check: Check, words: Words, home: str = "/") -> None:
        self._pages = pages
        self._sessions = sessions
        self._check = check
        self._words = words
        self._home = home

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page that asks, and of the button that closes the gate again."""
        path = self._words.action
        return [
            Route(path, self._ask, methods=["GET"]),
            Route(path, self._enter, methods=["POST"]),
            Route(f"{path}/leave", self.behind(self._leave), methods=["POST"]),
        ]

    def behind(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that lets only sessions to a handler, and only forms that were made in them."""

        async def endpoint(request: Request) -> Response:
            session = self._sessions.of(request)
            if session is None:
                return self._send_away(request)
            form: Form = {}
            if request.method not in SAFE:
                form = await form_of(request)
                if not is_genuine(session, form.get("csrf", "")):
                    told = "This form is from an earlier session. Nothing was done: load the page anew and try again."
                    return self._pages.problem(request, 403, "That form is too old", told, session)
            return await handler(Visit(request, session, form))

        return endpoint

    def _send_away(self, request: Request) -> Response:
        """Ask for the secret, and come back then; what a form held is not kept."""
        wanted = request.url.path if request.method in SAFE else self._home
        if request.method in SAFE and request.url.query:
            wanted += f"?{request.url.query}"
        return RedirectResponse(f"{self._words.action}?next={quote(wanted, safe='')}", SEE_OTHER)

    async def _ask(self, request: Request) -> Response:
        onward = local_path(request.query_params.get("next", ""), self._home)
        if self._sessions.of(request) is not None:
            return RedirectResponse(onward, SEE_OTHER)
        return self._page(request, onward, "", 200)

    async def _enter(self, request: Request) -> Response:
        form = await form_of(request)
        onward = local_path(form.get("next", ""), self._home)
        wrong = await self._check(form.get("secret", ""))
        if wrong:
            return self._page(request, onward, wrong, 403)
        response = RedirectResponse(onward, SEE_OTHER)
        self._sessions.end(request, response)
        self._sessions.begin(response)
        return response

    def _page(self, request: Request, onward: str, error: str, status: int) -> Response:
        words = self._words._asdict() | {"title": self._words.heading, "next": onward, "error": error}
        return self._pages.show(request, "enter.html", None, status, **words)

    async def _leave(self, visit: Visit) -> Response:
        response = RedirectResponse(self._words.action, SEE_OTHER)
        self._sessions.end(visit.request, response)
        return response
