import asyncio
import logging

import httpx
import pytest

from agents.bank.web.serving import serve_pages
from agents.web.listen import Listen
from tests.agents.bank.web.conftest import Operator
from tests.agents.world import running
from tests.conftest import free_port
from tests.simulation.entropy import SeededEntropy


class Opened(logging.Handler):
    """Waits for the line that says that the pages are there."""

    def __init__(self) -> None:
        super().__init__()
        self.said = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "the bank's site is open at" in record.getMessage():
            self.said.set()


async def test_the_pages_are_served_beside_a_running_bank(stranger: Operator, caplog: pytest.LogCaptureFixture) -> None:
    opened, log = Opened(), logging.getLogger("ecash.bank")
    caplog.set_level(logging.INFO, "ecash.bank")
    log.addHandler(opened)
    here = Listen("127.0.0.1", free_port())
    try:
        async with running(serve_pages(stranger.home, here, stranger.town.clock, SeededEntropy("pages"))):
            await asyncio.wait_for(opened.said.wait(), 120)
            async with httpx.AsyncClient(base_url=f"http://{here}", follow_redirects=True) as browser:
                form = {"secret": stranger.key, "next": "/accounts"}
                shown = await browser.post("/enter", data=form, headers={"Origin": f"http://{here}"})
                assert "The Bookshop" in shown.text
                assert (await browser.get("/static/style.css")).status_code == 200
    finally:
        log.removeHandler(opened)
