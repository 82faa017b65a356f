"""What all pages of the wallet share."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...web.forms import local_path
from ...web.gate import SEE_OTHER, Gate, Handler, Visit
from ...web.guard import SAFE
from ...web.pages import Pages
from ...web.sessions import Sessions
from ...world import Clock, Entropy
from ..service import attend
from ..transfer import Connect
from .telling import EXPECTED, Locked, problem_of
from .vault import Vault

UNLOCK: Final = "/unlock"


class House(NamedTuple):
    """The wallet of this machine and the ways to it; `attend` makes its presences at inboxes."""

    home: Path
    pages: Pages
    gate: Gate
    sessions: Sessions
    vault: Vault
    clock: Clock
    entropy: Entropy
    attend: Connect = attend

    def page(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint for the wallet's owner that tells what did not work.

        A problem with a form is told on the page that the form was on, so that reloading sends nothing again.
        """

        async def telling(visit: Visit) -> Response:
            try:
                return await handler(visit)
            except Locked:
                return self._unlock_first(visit)
            except EXPECTED as error:
                return self._told(visit, error)

        return self.gate.behind(telling)

    def _unlock_first(self, visit: Visit) -> Response:
        url = visit.request.url
        wanted = f"{url.path}?{url.query}" if url.query else url.path
        onward = wanted if visit.request.method in SAFE else "/"
        response = RedirectResponse(f"{UNLOCK}?next={quote(onward, safe='')}", SEE_OTHER)
        self.sessions.end(visit.request, response)
        return response

    def _told(self, visit: Visit, error: Exception) -> Response:
        problem = problem_of(error)
        if visit.request.method in SAFE:
            return self.pages.problem(visit.request, *problem, visit.session)
        return visit.onward(came_from(visit.request), f"{problem.heading}. {problem.what}", "bad")


def came_from(request: Request) -> str:
    """Return the path of the page that a form was on; the first page if the browser does not say."""
    parts = urlsplit(request.headers.get("referer", ""))
    if parts.netloc != request.headers["host"]:
        return "/"
    return local_path(f"{parts.path}?{parts.query}" if parts.query else parts.path)
