"""Who may ask: the guard before a site's pages.

A browser carries its owner's cookies to whatever a page of somebody else asks for. So each request must be addressed to
one of the site's own names (a page that has its name point here, DNS rebinding, has another one), each that changes
something must come from a page of the site itself, and nothing of the site is shown inside another page.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 64 * 1024
"""The longest request body that is read, in bytes."""
BODY_S: Final = 20.0
"""How long a request body may take to come, in seconds."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers write `Origin: null` into our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guard:
    """Lets through what a site's own pages, or its owner at the address bar, ask for.

    Args:
        app: the site.
        hosts: the values of the Host header that it answers to; None for any (a public shop under every name).
        origins: further origins that are the site's own, such as that of a proxy before it.
        keyed: paths below which no cookie counts, but a key in each request: there, any origin may ask.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str] | None, origins: Iterable[str] = (), keyed: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._keyed = tuple(keyed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        app = self._app if refusal is None else refusal
        await app(scope, _bounded(receive), _with_headers(scope["path"], send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (self._hosts is not None and hosts[0].lower() not in self._hosts):
            names = ", ".join(sorted(self._hosts or ()))
            return PlainTextResponse(f"This site answers under its own names only: {names}\n", 421)
        if scope["path"].startswith(self._keyed):
            return None  # what is too long, too, is said there in its own way; `_bounded` sees to it
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
            return PlainTextResponse(f"At most {MAX_BODY} bytes are taken.\n", 413)
        if not self._is_own(scope["method"], headers, hosts[0].lower()):
            return PlainTextResponse("This was asked for by a page of another site, and is refused.\n", 403)
        return None

    def _is_own(self, method: str, headers: Headers, host: str) -> bool:
        """Tell whether a page of this site asks, or a navigation that changes nothing (Fetch Metadata)."""
        if method not in SAFE:
            return headers.get("origin", "") in self._origins | {f"http://{host}", f"https://{host}"}
        if headers.get("sec-fetch-site", "none") in {"same-origin", "none"}:
            return True
        return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _bounded(receive: Receive) -> Receive:
    """Refuse a body that is too long, or does not come, while it is read."""
    taken, ends_at = 0, None
    complete = False

    async def bounded() -> Message:
        nonlocal taken, ends_at, complete
        if complete:
            return await receive()  # which tells when the browser has gone
        ends_at = ends_at or asyncio.get_running_loop().time() + BODY_S
        try:
            async with asyncio.timeout_at(ends_at):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "The request did not come to an end.") from None
        complete = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(413, f"At most {MAX_BODY} bytes are taken.")
        return message

    return bounded


def _with_headers(path: str, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "max-age=3600" if path.startswith("/static/") else "no-store")
        await send(message)

    return sending
