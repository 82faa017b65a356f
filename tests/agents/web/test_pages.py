from pathlib import Path

import pytest
from starlette.requests import Request

from agents.web.pages import Pages, Site, iso, when
from agents.web.qr import picture
from agents.web.sessions import Flash, Session
from protocol.token import QR_CHARACTERS

HOSTILE = '"><img src=x onerror=alert(1)>'


def pages(folder: Path) -> Pages:
    (folder / "own.html").write_text(
        '{% extends "base.html" %}{% block main %}<h1>{{ title }}</h1><p>{{ amount|money("USD") }}</p>{% endblock %}'
    )
    (folder / "part.html").write_text("<b>{{ text }}</b>")
    return Pages(folder, lambda _: Site("shop", HOSTILE, [("/", "Goods")]))


def request() -> Request:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "server": ("shop", 80)}
    return Request(scope | {"scheme": "http"})


def test_what_a_page_shows_is_escaped(tmp_path: Path) -> None:
    shown = bytes(pages(tmp_path).show(request(), "own.html", title=HOSTILE, amount=1234).body).decode()
    assert "12.34 USD" in shown
    assert HOSTILE not in shown
    assert "<img" not in shown


def test_a_flash_is_shown_once(tmp_path: Path) -> None:
    session, site = Session("token", 0, Flash("good", "It is done.")), pages(tmp_path)
    first, second = (bytes(site.show(request(), "own.html", session, title="x", amount=1).body) for _ in range(2))
    assert b"It is done." in first
    assert b"It is done." not in second


def test_a_part_of_a_page_is_escaped(tmp_path: Path) -> None:
    assert pages(tmp_path).part("part.html", text="<i>") == "<b>&lt;i&gt;</b>"


def test_a_problem_says_what_happened_and_what_to_do(tmp_path: Path) -> None:
    told = pages(tmp_path).problem(request(), 404, "No such order", "Its number is wrong.")
    assert told.status_code == 404
    assert b"Its number is wrong." in told.body
    assert b'href="/"' in told.body


def test_a_time_is_for_people_and_for_programs() -> None:
    assert iso(1_700_000_000_999) == "2023-11-14T22:13:20Z"
    assert 'datetime="2023-11-14T22:13:20Z"' in when(1_700_000_000_999)
    assert "2023" in when(1_700_000_000_999)


def test_a_qr_code_is_a_picture_without_the_text() -> None:
    drawn = picture("web+ecash:pay/abcd")
    assert drawn is not None
    assert drawn.startswith("<svg")
    assert "abcd" not in drawn.lower()
    assert "style=" not in drawn


@pytest.mark.parametrize(("length", "drawn"), [(QR_CHARACTERS, True), (QR_CHARACTERS + 1, False)])
def test_a_text_that_is_too_long_has_no_qr_code(length: int, *, drawn: bool) -> None:
    assert (picture("A" * length) is not None) is drawn
