"""Bringing lost coins back: in a wallet that is there, or in a new one from the twelve words of an old one."""

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ...address import BankAddress
from ...home import HomeError
from ...web.events import Update
from ...web.forms import form_of
from ...web.gate import SEE_OTHER, Visit
from ..seed import WrongPassphrase, entropy_of
from .forms import Wrong
from .house import House
from .live import watched
from .restoring import Job, Recovery, Run
from .setup import wrong_passphrase
from .telling import sentence

_RUN: Final = "/recover/run"
_MOST_BANKS: Final = 20
_UNPROCESSABLE: Final = 422


def routes(house: House) -> list[BaseRoute]:
    """Return the pages of recovery, and of a wallet's restoration from its words."""
    pages = _Pages(house)
    return [
        Route("/recover", house.page(pages.ask), methods=["GET"]),
        Route("/recover", house.page(pages.begin), methods=["POST"]),
        Route(_RUN, house.page(pages.show), methods=["GET"]),
        Route(f"{_RUN}/live", house.page(pages.live), methods=["GET"]),
        Route(f"{_RUN}/take-over", house.page(pages.take_over), methods=["POST"]),
        Route("/restore", pages.ask_words, methods=["GET"]),
        Route("/restore", pages.restore, methods=["POST"]),
    ]


class _Pages:
    def __init__(self, house: House) -> None:
        self._house = house
        self._recovery = Recovery(house)

    async def ask(self, visit: Visit) -> Response:
        async with self._house.vault.store() as store:
            banks = [(row.name, row.name) for row in await store.banks()]
        options = [("", "All banks that this wallet knows"), *banks] if len(banks) > 1 else banks
        under_way = self._recovery.under_way
        return self._house.pages.show(
            visit.request, "recover.html", visit.session, title="Recover", banks=options, under_way=under_way
        )

    async def begin(self, visit: Visit) -> Response:
        async with self._house.vault.store() as store:
            rows = await store.banks()
        chosen = visit.form.get("bank", "")
        jobs = [Job(BankAddress.parse(row.address)) for row in rows if chosen in ("", row.name)]
        if not jobs:
            return visit.onward("/recover", "This wallet does not know that bank: add it first.", "bad")
        self._recovery.start(jobs, keep="keep" in visit.form)
        return visit.onward(_RUN)

    async def show(self, visit: Visit) -> Response:
        run = self._recovery.run
        if run is None:
            told = "No recovery is under way. If the wallet was locked meanwhile, start again: it goes on where it was."
            return visit.onward("/recover", told, "info")
        return self._house.pages.show(
            visit.request, "recover_run.html", visit.session, title="Recover", run=run, sums=_sums
        )

    async def live(self, visit: Visit) -> Response:
        def part(run: Run) -> str:
            return self._house.pages.part("recover_state.html", session=visit.session, run=run, sums=_sums)

        async def look() -> Update:
            run = self._recovery.run
            return Update({"run": part(run)} if run is not None else {}, done=run is None or run.over)

        return watched(self._house, visit, look, keep_open=True)

    async def take_over(self, visit: Visit) -> Response:
        self._recovery.take_over(visit.form.get("bank", ""))
        return visit.onward(_RUN)

    async def ask_words(self, request: Request) -> Response:
        if self._house.vault.exists:
            return RedirectResponse("/recover", SEE_OTHER)
        return self._form(request, {}, {})

    def _form(self, request: Request, values: dict[str, str], wrong: Wrong) -> Response:
        filled = {"words": "", "banks": "", "keep": ""} | values
        status = _UNPROCESSABLE if wrong else 200
        return self._house.pages.show(
            request, "restore.html", None, status, title="Bring your wallet back", values=filled, wrong=wrong
        )

    async def restore(self, request: Request) -> Response:
        """Make the wallet of twelve words anew, and bring its coins back; a second click finds it made."""
        house = self._house
        if house.vault.exists:
            return RedirectResponse("/recover", SEE_OTHER)
        form, wrong, seed = await form_of(request), Wrong(), b""
        try:
            seed = entropy_of(form.get("words", ""))
        except ValueError as error:
            wrong["words"] = sentence(str(error))
        addresses = _addresses(form.get("banks", ""), wrong)
        if told := wrong_passphrase(form.get("passphrase", ""), form.get("again", "")):
            wrong["passphrase"] = told
        if wrong:
            return self._form(request, form, wrong)
        try:
            await house.vault.restore(form["passphrase"], seed)
        except (HomeError, WrongPassphrase) as error:
            return self._form(request, form, {"passphrase": sentence(str(error))})
        response = RedirectResponse(_RUN, SEE_OTHER)
        house.sessions.begin(response)
        self._recovery.start([Job(one, restored=True) for one in addresses], keep="keep" in form)
        return response


def _addresses(text: str, wrong: Wrong) -> list[BankAddress]:
    """Return the banks' addresses, one in each line."""
    addresses = list[BankAddress]()
    for line in filter(None, map(str.strip, text.splitlines()[:_MOST_BANKS])):
        try:
            addresses.append(BankAddress.parse(line))
        except ValueError as error:
            wrong["banks"] = sentence(str(error))
    if not addresses:
        wrong.setdefault("banks", "Which bank are the coins of? Enter its address; your bank tells it to anybody.")
    return addresses


def _sums(sums: dict[str, int]) -> list[tuple[str, int]]:
    """Return amounts by currency, those that are something."""
    return [(currency, value) for currency, value in sorted(sums.items()) if value]
