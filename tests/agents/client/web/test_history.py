"""What the wallet has done: the list, a payment's page, its proof and its refund, what is still open."""

import json
from pathlib import Path
from typing import Any

import msgspec

from agents.client.store import ExchangeRow
from agents.client.web.history import PAGE
from agents.proof import check_proof, read_proof
from protocol.wallet import payment, refund
from tests.agents.world import Town, cash
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .browser import ORIGIN, Browser
from .streams import in_time, updates

GOODS = "https://shop.example/novel.epub"


async def bought(browser: Browser, town: Town, patience_ms: int = 20_000) -> str:
    """Buy the novel, and return the path of the payment's page."""
    async with browser.vault.wallet() as wallet:
        await cash(wallet, 40)
        assert isinstance(town.clock, VirtualClock)
        town.clock.advance(1_000)
        row = await town.buy(wallet, patience_ms=patience_ms)
    return f"/history/{row.id.hex()}"


async def row_at(browser: Browser, path: str) -> ExchangeRow:
    async with browser.vault.store() as store:
        return await store.exchange(bytes.fromhex(path.split("/")[2]))


async def change(browser: Browser, path: str, **note: object) -> None:
    """Let hostile text stand in an exchange."""
    row = await row_at(browser, path)
    async with browser.vault.store() as store:
        await store.save(row._replace(note=msgspec.structs.replace(row.note, **note)), (), {})


async def test_the_history_tells_in_words_the_newest_first(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    page = await alice.get("/history")
    assert page.status_code == 200
    assert page.text.index("Payment") < page.text.index("Withdrawal")
    assert f'href="{path}"' in page.text
    assert "The Bookshop" in page.text
    assert "0.13" in page.text


async def test_a_new_wallet_has_no_history(owner: Browser) -> None:
    page = await owner.get("/history")
    assert "Nothing has happened" in page.text


async def test_a_long_history_comes_in_pages(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    row = await row_at(alice, path)
    async with alice.vault.store() as store:
        for number in range(PAGE):
            await store.save(row._replace(id=number.to_bytes(16), begun_at=number), (), {})
    first, second = (await alice.get("/history")).text, (await alice.get("/history?page=2")).text
    assert path in first
    assert path not in second
    assert "Page 1 of 2" in first
    assert "Page 2 of 2" in second
    assert (await alice.get("/history?page=99999")).text == second
    for odd in ("0", "-1", "x", "²", "9" * 40):
        assert (await alice.get(f"/history?page={odd}")).status_code == 200


async def test_what_is_not_in_the_history_has_no_page(alice: Browser) -> None:
    for number in ("0" * 32, "1f2e", "z" * 32, "0 " * 16):
        assert (await alice.get(f"/history/{number}")).status_code == 404


async def test_the_page_of_a_payment_is_its_receipt(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    page = (await alice.get(path)).text
    row = await row_at(alice, path)
    for told in ("Receipt", "The Bookshop", "A novel of manners", GOODS, row.number, "Prove this payment"):
        assert told in page
    assert "data-events" not in page, "it has ended"


async def test_what_a_shop_says_stays_text(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    await change(alice, path, title="<script>alert(1)</script>", order=('"><img src=x onerror=alert(1)>',))
    for page in ((await alice.get(path)).text, (await alice.get("/history")).text):
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


async def test_a_proof_opens_the_lines_that_were_chosen(town: Town, alice: Browser, tmp_path: Path) -> None:
    path = await bought(alice, town)
    await alice.get(path)
    forms: list[tuple[dict[str, Any], int]] = [({"line-0": "yes"}, 1), ({}, 0)]
    for form, order in forms:
        answer = await alice.post(f"{path}/proof", **form)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        file = tmp_path / f"proof-{order}.json"
        file.write_text(answer.text)
        checked = check_proof(read_proof(file), town.address)
        assert checked.info.amount == 13
        assert len([line for line in checked.order if line]) == order
        assert checked.code


async def test_what_was_not_paid_cannot_be_proven(town: Town, alice: Browser) -> None:
    async with alice.vault.wallet() as wallet:
        row = await cash(wallet, 20)
    path = f"/history/{row.id.hex()}"
    page = await alice.get(path)
    assert "Prove this payment" not in page.text
    answer = await alice.post(f"{path}/proof", headers={"Referer": f"{ORIGIN}{path}"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert "is no payment" in (await alice.get(path)).text


async def test_a_refund_is_collected(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    page = await alice.get(path)
    assert "Collect refund" in page.text
    refused = await alice.post(f"{path}/refund", headers={"Referer": f"{ORIGIN}{path}"})
    assert refused.headers["location"] == path
    assert "refused" in (await alice.get(path)).text
    [sale] = await town.sales.sales()
    await town.books.credit(town.shop_number, 50, "the shopkeeper's own")
    await town.sales.grant(sale.payment_id, 13, town.clock.now())
    answer = await alice.post(f"{path}/refund")
    assert answer.status_code == 303
    collected = await row_at(alice, answer.headers["location"])
    assert collected.state == refund.Collected(13)
    assert "Collected a refund" in (await alice.get(answer.headers["location"])).text


async def test_what_is_open_is_shown_live_and_can_be_tried_again(
    town: Town, alice: Browser, network: Network, clock: VirtualClock
) -> None:
    network.loses = lambda message: "/pay/" in message.topic
    path = await bought(alice, town, patience_ms=0)
    page = (await alice.get(path)).text
    assert f'data-events="{path}/live"' in page
    assert "Try again now" in page
    assert "Prove this payment" not in page
    live = updates(alice, f"{path}/live")
    assert (await anext(live))["done"] is False
    network.loses = lambda _: False
    answer = await alice.post(f"{path}/again")
    assert answer.headers["location"] == path
    assert isinstance((await row_at(alice, path)).state, payment.Paid)
    update = await in_time(anext(live), clock)
    assert update["done"] is True
    assert GOODS in update["html"]["entry"]
    assert [one async for one in live] == []
    assert GOODS in (await alice.get(path)).text


async def test_who_tries_again_in_vain_is_told(
    town: Town, alice: Browser, network: Network, clock: VirtualClock
) -> None:
    network.loses = lambda message: "/pay/" in message.topic
    path = await bought(alice, town, patience_ms=0)
    await alice.get(path)
    assert (await in_time(alice.post(f"{path}/again"), clock)).headers["location"] == path
    assert "There is no answer yet" in (await alice.get(path)).text
    network.loses = lambda _: False


async def test_a_live_page_ends_when_the_wallet_is_locked(
    town: Town, alice: Browser, network: Network, clock: VirtualClock
) -> None:
    network.loses = lambda message: "/pay/" in message.topic
    path = await bought(alice, town, patience_ms=0)
    live = updates(alice, f"{path}/live")
    await anext(live)
    alice.vault.lock()
    assert await in_time(anext(live), clock) == {"html": {}, "title": "", "done": True}
    network.loses = lambda _: False


async def test_evidence_is_handed_out_as_a_file(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    answer = await alice.get(f"{path}/evidence")
    assert answer.headers["content-disposition"].startswith("attachment")
    kept = json.loads(answer.text)
    assert kept["state"] == "paid"
    assert set(kept["evidence"]) == {"digest", "verdict", "receipt"}


async def test_forms_of_others_do_nothing(town: Town, alice: Browser) -> None:
    path = await bought(alice, town)
    await alice.get(path)
    foreign = await alice.post(f"{path}/proof", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
    assert (await alice.post(f"{path}/refund", csrf="0" * 64)).status_code == 403
    stranger = alice.another()
    assert (await stranger.get(path)).headers["location"].startswith("/unlock?next=")
    await stranger.aclose()
