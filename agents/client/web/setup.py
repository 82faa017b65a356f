"""Setting up: a passphrase, and the twelve words that are shown until they are written down."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ...home import HomeError
from ...web.forms import form_of
from ...web.gate import SEE_OTHER, Visit
from ..seed import WORDS
from .house import House
from .telling import sentence

BEGIN: Final = "/begin"
_SHOWN: Final = "/begin/words"
_SHORTEST: Final = 8
_LONGEST: Final = 1024


def routes(house: House) -> list[BaseRoute]:
    """Return the pages from an empty folder to a wallet."""
    setup = _Setup(house)
    return [
        Route(BEGIN, setup.ask, methods=["GET"]),
        Route(BEGIN, setup.make, methods=["POST"]),
        Route(_SHOWN, house.page(setup.show), methods=["GET"]),
        Route(_SHOWN, house.page(setup.check), methods=["POST"]),
    ]


def wrong_passphrase(passphrase: str, again: str) -> str:
    """Say what is wrong with a new passphrase, typed twice; nothing if it is good."""
    if len(passphrase) < _SHORTEST:
        return f"A passphrase has at least {_SHORTEST} characters; three or four words of your own are easy to keep."
    if len(passphrase) > _LONGEST:
        return f"A passphrase has at most {_LONGEST} characters."
    if passphrase != again:
        return "The two are not the same: type it twice alike."
    return ""


class _Setup:
    def __init__(self, house: House) -> None:
        self._house = house
        self._asked: tuple[int, ...] = ()

    async def ask(self, request: Request) -> Response:
        if self._house.vault.exists:
            return RedirectResponse("/", SEE_OTHER)
        return self._form(request, "")

    async def make(self, request: Request) -> Response:
        """Make the wallet; who makes it is in. A second click finds it made, and leads to its gate."""
        house = self._house
        if house.vault.exists:
            return RedirectResponse("/", SEE_OTHER)
        form = await form_of(request)
        passphrase = form.get("passphrase", "")
        if wrong := wrong_passphrase(passphrase, form.get("again", "")):
            return self._form(request, wrong)
        try:
            await house.vault.create(passphrase)
        except HomeError as error:
            return self._form(request, sentence(str(error)))
        self._asked = _two_of(WORDS, house.entropy.jitter(), house.entropy.jitter())
        response = RedirectResponse(_SHOWN, SEE_OTHER)
        house.sessions.begin(response)
        return response

    def _form(self, request: Request, wrong: str) -> Response:
        title = "Make your wallet"
        status = 422 if wrong else 200
        return self._house.pages.show(
            request, "begin.html", None, status, title=title, wrong=wrong, home=self._house.home
        )

    async def show(self, visit: Visit) -> Response:
        words = self._house.vault.new_words.split()
        if not words:
            told = "The twelve words were shown once, when this wallet was made. Nobody can show them again."
            return visit.onward("/", told, "info")
        context: dict[str, Any] = {"words": words, "asked": self._asked}
        return self._house.pages.show(visit.request, "words.html", visit.session, title="Twelve words", **context)

    async def check(self, visit: Visit) -> Response:
        words = self._house.vault.new_words.split()
        if words:
            wrong = [n for n in self._asked if visit.form.get(f"word-{n}", "").lower() != words[n - 1]]
            if wrong:
                which = " and ".join(str(number) for number in wrong)
                return visit.onward(
                    _SHOWN, f"Word {which} is another one: look at your paper, and type it again.", "bad"
                )
        self._house.vault.new_words = ""
        told = (
            "Your wallet is ready. Next it needs a bank: enter the address and the invitation that the bank gave you."
        )
        return visit.onward("/banks", told)


def _two_of(count: int, first: int, second: int) -> tuple[int, int]:
    """Return two different numbers from 1 to `count`, in order, drawn by two random numbers of 0 … 1000."""
    one = first * count // 1001
    other = (one + 1 + second * (count - 1) // 1001) % count
    low, high = sorted((one + 1, other + 1))
    return low, high
