import pytest
from starlette.requests import Request
from starlette.responses import Response

from agents.web.sessions import IDLE_MS, MAX_SESSIONS, Session, Sessions, is_genuine
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy


def request(cookie: str = "") -> Request:
    headers = [(b"cookie", cookie.encode("latin-1"))] if cookie else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_700_000_000_000)


@pytest.fixture
def sessions(clock: VirtualClock) -> Sessions:
    return Sessions(clock, SeededEntropy("web"), "ecash-test")


def begin(sessions: Sessions) -> tuple[str, Session]:
    response = Response()
    session = sessions.begin(response)
    return cookie_of(response), session


def test_a_browser_that_has_shown_the_secret_is_known_again(sessions: Sessions) -> None:
    cookie, session = begin(sessions)
    assert sessions.of(request(cookie)) is session
    assert sessions.any


@pytest.mark.parametrize("cookie", ["", "ecash-test=", "ecash-test=00", "other=1", "ecash-test=\xe9"])
def test_another_browser_is_not(sessions: Sessions, cookie: str) -> None:
    begin(sessions)
    assert sessions.of(request(cookie)) is None


def test_a_session_lasts_while_it_is_used(sessions: Sessions, clock: VirtualClock) -> None:
    cookie, session = begin(sessions)
    for _ in range(3):
        clock.advance(IDLE_MS - 1)
        assert sessions.of(request(cookie)) is session
    clock.advance(IDLE_MS)
    assert sessions.of(request(cookie)) is None
    assert not sessions.any


def test_a_session_can_be_ended(sessions: Sessions) -> None:
    cookie, _ = begin(sessions)
    response = Response()
    sessions.end(request(cookie), response)
    assert sessions.of(request(cookie)) is None
    assert "Max-Age=0" in response.headers["set-cookie"]


def test_all_sessions_can_be_ended(sessions: Sessions) -> None:
    cookies = [begin(sessions)[0] for _ in range(2)]
    sessions.end_all()
    assert [sessions.of(request(one)) for one in cookies] == [None, None]


def test_when_there_are_too_many_the_one_unused_for_longest_goes(sessions: Sessions, clock: VirtualClock) -> None:
    cookies = []
    for _ in range(MAX_SESSIONS + 1):
        cookies.append(begin(sessions)[0])
        clock.advance(1)
    assert sessions.of(request(cookies[0])) is None
    assert sessions.of(request(cookies[1])) is not None


def test_the_cookie_is_not_for_scripts_nor_for_other_sites_forms(clock: VirtualClock) -> None:
    response = Response()
    Sessions(clock, SeededEntropy("web"), "ecash-test", secure=True).begin(response)
    written = response.headers["set-cookie"].lower()
    assert "httponly" in written
    assert "samesite=lax" in written
    assert "secure" in written


def test_a_form_of_another_session_is_not_genuine(sessions: Sessions) -> None:
    (_, one), (_, other) = begin(sessions), begin(sessions)
    assert is_genuine(one, one.csrf)
    for forged in (other.csrf, "", one.csrf[:-1], "é"):
        assert not is_genuine(one, forged)
