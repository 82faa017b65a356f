import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from agents.web.events import Update
from agents.web.gate import Gate, Visit, Words
from agents.web.guard import Guard
from agents.web.pages import Pages, Site
from agents.web.sessions import Session, Sessions
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy

HERE = "http://127.0.0.1:8090"
ORIGIN = {"Origin": HERE}
HOSTILE = "<script>alert(1)</script>"


class Vestry:
    """A site with one page behind a gate, which counts what it was made to do."""

    def __init__(self, tmp_path: Path) -> None:
        self.done = 0
        sessions = Sessions(VirtualClock(1_700_000_000_000), SeededEntropy("gate"), "ecash-test")

        def site(_: Session | None) -> Site:
            return Site("bank", HOSTILE, [("/", "Home")])

        pages = Pages(tmp_path, site)
        gate = Gate(pages, sessions, self._check, Words("Enter", "Key", "The key that was printed.", "/enter"))
        routes = [
            *gate.routes(),
            Route("/", gate.behind(self._show), methods=["GET"]),
            Route("/do", gate.behind(self._do), methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: pages.http_problem})
        guarded = Guard(app, frozenset({"127.0.0.1:8090"}))
        self.browser = httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url=HERE)

    async def _check(self, secret: str) -> str:
        return "" if secret == "sesame" else "That is not the key."

    async def _show(self, visit: Visit) -> Response:
        flash, visit.session.flash = visit.session.flash, None
        return HTMLResponse(f"{visit.session.csrf} {flash.text if flash else ''}")

    async def _do(self, visit: Visit) -> Response:
        self.done += 1
        return visit.onward("/", "Done.")

    async def enter(self, onward: str = "/") -> httpx.Response:
        return await self.browser.post("/enter", data={"secret": "sesame", "next": onward}, headers=ORIGIN)


@pytest.fixture
def vestry(tmp_path: Path) -> Vestry:
    return Vestry(tmp_path)


async def test_who_has_not_shown_the_secret_is_asked_for_it_and_comes_back_then(vestry: Vestry) -> None:
    away = await vestry.browser.get("/?a=1&b=2")
    assert away.status_code == 303
    assert away.headers["location"] == "/enter?next=%2F%3Fa%3D1%26b%3D2"
    asked = await vestry.browser.get(away.headers["location"])
    assert asked.status_code == 200
    assert 'value="/?a=1&amp;b=2"' in asked.text
    entered = await vestry.enter("/?a=1&b=2")
    assert (entered.status_code, entered.headers["location"]) == (303, "/?a=1&b=2")
    assert (await vestry.browser.get("/")).status_code == 200


async def test_a_wrong_secret_opens_nothing(vestry: Vestry) -> None:
    wrong = await vestry.browser.post("/enter", data={"secret": "open"}, headers=ORIGIN)
    assert wrong.status_code == 403
    assert "That is not the key." in wrong.text
    assert (await vestry.browser.get("/")).status_code == 303


@pytest.mark.parametrize(
    "onward", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
async def test_nobody_is_sent_to_another_site(vestry: Vestry, onward: str) -> None:
    assert (await vestry.enter(onward)).headers["location"] == "/"


async def test_a_form_needs_the_token_of_its_session(vestry: Vestry) -> None:
    await vestry.enter()
    csrf = (await vestry.browser.get("/")).text.split()[0]
    for form in ({"other": "1"}, {"csrf": ""}, {"csrf": csrf[:-1]}):
        assert (await vestry.browser.post("/do", data=form, headers=ORIGIN)).status_code == 403
    assert vestry.done == 0
    assert (await vestry.browser.post("/do", data={"csrf": csrf}, headers=ORIGIN)).status_code == 303
    assert vestry.done == 1
    assert (await vestry.browser.get("/")).text.endswith("Done.")
    assert not (await vestry.browser.get("/")).text.endswith("Done.")


async def test_without_a_session_a_form_does_nothing(vestry: Vestry) -> None:
    assert (await vestry.browser.post("/do", data={"csrf": "x"}, headers=ORIGIN)).headers[
        "location"
    ] == "/enter?next=%2F"
    assert vestry.done == 0


async def test_another_sites_form_does_nothing_even_with_the_token(vestry: Vestry) -> None:
    await vestry.enter()
    csrf = (await vestry.browser.get("/")).text.split()[0]
    forged = await vestry.browser.post("/do", data={"csrf": csrf}, headers={"Origin": "http://evil.example"})
    assert forged.status_code == 403
    assert vestry.done == 0


async def test_the_gate_can_be_closed_again(vestry: Vestry) -> None:
    await vestry.enter()
    csrf = (await vestry.browser.get("/")).text.split()[0]
    left = await vestry.browser.post("/enter/leave", data={"csrf": csrf}, headers=ORIGIN)
    assert left.headers["location"] == "/enter"
    assert (await vestry.browser.get("/")).status_code == 303


async def test_entering_makes_a_new_session(vestry: Vestry) -> None:
    await vestry.enter()
    first = vestry.browser.cookies["ecash-test"]
    await vestry.browser.post("/enter", data={"secret": "sesame"}, headers=ORIGIN)
    assert vestry.browser.cookies["ecash-test"] != first


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_what_is_no_form_is_refused(vestry: Vestry, kind: str) -> None:
    answer = await vestry.browser.post("/enter", content=b"secret=sesame", headers=ORIGIN | {"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize("body", [b"secret=%ff", b"&".join(b"a=1" for _ in range(700))])
async def test_a_form_that_cannot_be_read_is_refused(vestry: Vestry, body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await vestry.browser.post("/enter", content=body, headers=ORIGIN | kind)
    assert answer.status_code == 400


async def test_names_are_text(vestry: Vestry) -> None:
    page = (await vestry.browser.get("/enter")).text
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<[^>]+\s(on\w+|style)=", page)
    assert (await vestry.browser.get("/nowhere")).status_code == 404


async def test_live_updates_tell_nothing_more_once_their_session_is_over() -> None:
    sessions = Sessions(VirtualClock(1_700_000_000_000), SeededEntropy("gate"), "ecash-test")
    session, app = sessions.begin(Response()), Starlette()
    app.state.stopping = asyncio.Event()

    async def updates() -> AsyncIterator[Update]:
        yield Update({"sales": "one"})
        sessions.end_all()
        yield Update({"sales": "two"})

    visit = Visit(Request({"type": "http", "app": app}), session, {})
    told = [str(part) async for part in visit.watch(updates()).body_iterator]
    assert len(told) == 1
    assert "one" in told[0]
