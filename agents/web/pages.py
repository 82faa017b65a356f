"""Pages: templates of a role and the shared ones, filled in; what they show is escaped."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from protocol.money import format_minor

from .sessions import Flash, Session, Sessions

_HERE: Final = Path(__file__).parent


class Site(NamedTuple):
    """What every page of a site shows: its role (`shop`, `wallet` or `bank`), its name, and where else to go.

    `leave` is the path that ends a session, and what its button says; nothing if there is none to end.
    """

    role: str
    name: str
    nav: Sequence[tuple[str, str]]
    leave: tuple[str, str] | None = None


class Next(NamedTuple):
    """Where to go on from a page that tells of a problem."""

    href: str
    label: str


@cache
def _templates(folder: Path) -> Environment:
    """Return the templates of a role, which are compiled at first use, and never again in this process."""
    templates = Environment(
        loader=FileSystemLoader([folder, _HERE / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"money": format_minor, "when": when, "short": short}
    return templates


_FIRST: Final = Next("/", "Go to the first page")


class Pages:
    """The pages of a site.

    Args:
        folder: the role's own templates, which come before the shared ones.
        site: returns what its pages show all of; it may change while the site runs.
        sessions: of the site, so that a page about a problem is shown as the others are.
    """

    def __init__(self, folder: Path, site: Callable[[Session | None], Site], sessions: Sessions | None = None) -> None:
        self._site = site
        self._sessions = sessions
        self._templates = _templates(folder)

    def show(
        self, request: Request, template: str, session: Session | None = None, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page; the session's flash is shown in it, and gone."""
        flash: Flash | None = None
        if session is not None:
            flash, session.flash = session.flash, None
        shared = {"site": self._site(session), "path": request.url.path, "session": session, "flash": flash}
        filled = self._templates.get_template(template).render(shared | {"status": status} | context)
        return HTMLResponse(filled, status)

    def part(self, template: str, **context: Any) -> str:
        """Return a part of a page, for a live update."""
        return self._templates.get_template(template).render(context)

    def problem(
        self,
        request: Request,
        status: int,
        heading: str,
        what: str,
        session: Session | None = None,
        onward: Next = _FIRST,
    ) -> HTMLResponse:
        """Return a page that says what happened and what to do next."""
        told = {"heading": heading, "what": what, "next": "", "back": onward.href, "back_label": onward.label}
        return self.show(request, "problem.html", session, status, title=heading, **told)

    def http_problem(self, request: Request, error: Exception) -> Response:
        """Return the page for an `HTTPException`; give it to `Starlette(exception_handlers=…)`."""
        if not isinstance(error, HTTPException):
            raise error
        heading = _HEADINGS.get(error.status_code, "That did not work")
        what = _NOWHERE if error.detail == HTTPStatus.NOT_FOUND.phrase else error.detail
        session = self._sessions.of(request) if self._sessions is not None else None
        return self.problem(request, error.status_code, heading, what, session)

    def static(self) -> BaseRoute:
        """Return the route of the style sheet, the scripts and the icon."""
        return Mount("/static", StaticFiles(directory=_HERE / "static"), name="static")


_NOWHERE: Final = "Nothing is at this address. It may have been cut off when it was copied."
_HEADINGS: Final = {
    400: "That cannot be read",
    403: "Refused",
    404: "There is no such page",
    405: "That cannot be done here",
    415: "That cannot be read",
}


def when(at: int) -> Markup:
    """Return a time (milliseconds) as its reader's machine shows it, with the exact one for programs."""
    local = datetime.fromtimestamp(at / 1000, UTC).astimezone()
    return Markup('<time datetime="{}">{}</time>').format(iso(at), local.strftime("%-d %b %Y, %H:%M"))


def iso(at: int) -> str:
    """Return a time (milliseconds) in ISO 8601, in UTC, to the second."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(number: str) -> str:
    """Return how a long number begins, which is enough to tell it from others."""
    return number[:8]
