import pytest

from tests.agents.bank.web.conftest import Operator, change


async def test_payouts_are_exported_once_and_the_file_stays(trade: Operator) -> None:
    page = await trade.see("/payouts")
    assert "2 payouts are queued" in page
    assert "The Bookshop, checking account ending in 345A at 021000021" in page
    written = await trade.send("/payouts", "/payouts")
    assert "ACH file 1 is written" in written
    assert "No payout is queued." in written
    first, again = [await trade.browser.get("/payouts/files/1") for _ in range(2)]
    assert first.headers["Content-Disposition"] == 'attachment; filename="payouts-1.ach"'
    assert first.content == again.content
    assert (1, first.content) == await trade.town.books.ach_file(1)
    assert [row.state for row in await trade.town.books.payouts()] == ["exported", "exported"]


async def test_the_file_that_was_just_written_is_downloaded_by_itself(trade: Operator) -> None:
    begin = '<meta http-equiv="refresh" content="0; url=/payouts/files/1">'
    assert begin not in (await trade.browser.get("/payouts?file=1")).text
    await trade.send("/payouts", "/payouts")
    assert begin in (await trade.browser.get("/payouts?file=1")).text
    for other in ("/payouts", "/payouts?file=2", "/payouts?file=%22%3E"):
        assert "http-equiv" not in (await trade.browser.get(other)).text


async def test_with_nothing_queued_there_is_no_file(trade: Operator) -> None:
    await trade.send("/payouts", "/payouts")
    page = await trade.send("/payouts", "/accounts")
    assert "there is nothing to export" in page
    assert [file.number for file in await trade.town.books.ach_files()] == [1]


@pytest.mark.parametrize(("setting", "value"), [("ach_odfi", ""), ("ach_origin", "none")])
async def test_what_is_missing_for_a_file_is_told(trade: Operator, setting: str, value: str) -> None:
    change(trade.home, **{setting: value})
    assert "No ACH file can be written" in await trade.see("/payouts")
    page = await trade.send("/payouts", "/accounts")
    assert "No file was written" in page
    assert "bank.toml" in page
    assert [row.state for row in await trade.town.books.payouts()] == ["queued", "queued"]
