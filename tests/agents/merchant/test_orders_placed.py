"""Orders that the shop's own system places."""

import asyncio

import pytest

from agents.merchant.orders import Line, Orders
from protocol.errors import PeerError
from protocol.messages import Payreq, Signed
from protocol.money import MAX_AMOUNT
from protocol.payment_link import PaymentLink
from protocol.refusals import Refusal
from tests.agents.merchant.south import SOUTH, South
from tests.agents.merchant.web_shop import choose, seen
from tests.agents.world import BANK, Town
from tests.simulation.clock import VirtualClock

SONG = Line("A song", 11)


@pytest.fixture
def orders(town: Town) -> Orders:
    return town.shop.orders


async def test_the_same_order_with_one_key_is_placed_once_also_after_a_restart(town: Town) -> None:
    for made_now in (True, False):
        placed = await town.shop.orders.place(
            BANK, "USD", [SONG], reference="A-17", return_url="https://shop.example/thanks", idempotency_key="k1"
        )
        assert placed[1] == made_now
        await town.stop_shop()
        await town.start_shop()
    sight = placed[0]
    assert (sight.order.reference, sight.order.return_url, sight.order.buyer) == (
        "A-17",
        "https://shop.example/thanks",
        b"",
    )
    assert len(await town.sales.sales()) == 1
    for changed in ([Line("A song", 12)], [SONG, SONG]):
        with pytest.raises(PeerError, match=Refusal.REQUEST_ID_REUSED):
            await town.shop.orders.place(
                BANK, "USD", changed, reference="A-17", return_url=sight.order.return_url, idempotency_key="k1"
            )
    with pytest.raises(PeerError, match=Refusal.REQUEST_ID_REUSED):
        await town.shop.orders.place(BANK, "USD", [SONG], reference="A-17", idempotency_key="k1")
    other = await town.shop.orders.place(BANK, "USD", [SONG], reference="A-17", idempotency_key="k2")
    assert other[1]
    assert len({(await town.shop.orders.place(BANK, "USD", [SONG]))[0].order.id for _ in range(2)}) == 2


async def test_two_at_once_with_one_key_place_one_order(town: Town, orders: Orders) -> None:
    placing = (orders.place("", "USD", [SONG], idempotency_key="k") for _ in range(5))
    placed = await asyncio.gather(*placing)
    assert len({sight.order.id for sight, _ in placed}) == 1
    assert [made_now for _, made_now in placed].count(True) == 1


@pytest.mark.parametrize(
    "line",
    [
        Line("", 1),
        Line("  ", 1),
        Line("x" * 121, 1),
        Line("two\nlines", 1),
        Line("turned \u202e round", 1),
        Line("half a pair \ud800", 1),
        Line("free", 0),
        Line("paid for taking it", -1),
        Line("dear", MAX_AMOUNT + 1),
        Line("dear in all", MAX_AMOUNT, 2),
        Line("none", 1, 0),
        Line("fewer than none", 1, -1),
        Line("very many", 1, 10_001),
        Line("goods", 1, 1, "x" * 2_001),
        Line("goods", 1, 1, "\x1b[2J"),
    ],
)
async def test_a_line_that_nobody_could_read_or_pay_is_refused(town: Town, orders: Orders, line: Line) -> None:
    with pytest.raises(PeerError, match=Refusal.MALFORMED):
        await orders.place(BANK, "USD", [SONG, line])
    assert await town.sales.sales() == []


@pytest.mark.parametrize(
    "parts",
    [
        {"reference": "x" * 121},
        {"reference": "\0"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "//evil.example"},
        {"return_url": "https://"},
        {"return_url": "https://[::1/"},
        {"return_url": "https://shop.example:99999/"},
        {"return_url": "https://shop.example@evil.example/"},
        {"return_url": "https://shop.example/ö"},
        {"return_url": "https://shop.example/\r\nSet-Cookie: a=b"},
        {"return_url": "https://shop.example/" + "x" * 500},
        {"idempotency_key": "x" * 256},
        {"idempotency_key": "\ud800"},
    ],
)
async def test_what_else_is_out_of_bounds_is_refused(town: Town, orders: Orders, parts: dict[str, str]) -> None:
    with pytest.raises(PeerError, match=Refusal.MALFORMED):
        await orders.place(BANK, "USD", [SONG], **parts)
    assert await town.sales.sales() == []


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ([], Refusal.MALFORMED),
        ([SONG] * 51, Refusal.MALFORMED),
        ([Line("goods", 1, 1, f"{number} " * 300) for number in range(5)], Refusal.MALFORMED),
        ([Line("界" * 117, 1)] * 50, Refusal.MALFORMED),
        ([Line("A song", 1, 1, "", "song.flac")], Refusal.UNKNOWN_ITEM),
        ([Line("A song", 1, 1, "", "../keys/root")], Refusal.UNKNOWN_ITEM),
        ([Line("A song", 1, 1, "", "/etc/passwd")], Refusal.UNKNOWN_ITEM),
        ([Line("A song", 1, 1, "", "..")], Refusal.UNKNOWN_ITEM),
        ([Line("A song", 1, 1, "", "\0")], Refusal.UNKNOWN_ITEM),
    ],
)
async def test_an_order_that_cannot_be_offered_is_refused(
    town: Town, orders: Orders, lines: list[Line], refusal: Refusal
) -> None:
    with pytest.raises(PeerError, match=refusal):
        await orders.place(BANK, "USD", lines)
    assert await town.sales.sales() == []


async def test_the_largest_order_that_fits_is_offered(orders: Orders) -> None:
    sight, _ = await orders.place(BANK, "USD", [Line("A" * 120, 1, 10_000)] * 50)
    assert PaymentLink.parse(sight.link).unverified.amount == 500_000


@pytest.mark.parametrize(
    ("bank", "currency", "refusal"),
    [
        ("", "EUR", Refusal.WRONG_BANK),
        ("", "", Refusal.WRONG_BANK),
        (SOUTH, "USD", Refusal.WRONG_BANK),
        (BANK, "EUR", Refusal.WRONG_CURRENCY),
        ("\ud800", "USD", Refusal.MALFORMED),
        (BANK, "\ud800", Refusal.MALFORMED),
    ],
)
async def test_an_order_is_for_a_bank_and_a_currency_of_the_shop(
    orders: Orders, bank: str, currency: str, refusal: Refusal
) -> None:
    with pytest.raises(PeerError, match=refusal):
        await orders.place(bank, currency, [SONG])


async def test_without_a_name_the_only_bank_of_a_currency_is_taken(founded: Town) -> None:
    south = South(founded)
    await south.found()
    await founded.start_bank()
    await south.start()
    await founded.start_shop()
    try:
        shop = founded.shop
        for currency, bank in (("USD", BANK), ("EUR", SOUTH)):
            sight, _ = await shop.orders.place("", currency, [SONG])
            assert PaymentLink.parse(sight.link).bank == bank
        assert PaymentLink.parse((await choose(shop.orders, "verse", bank="")).link).bank == SOUTH
        with pytest.raises(PeerError, match=Refusal.UNKNOWN_ITEM):
            await choose(shop.orders, "novel", "verse", bank="")
        shop.desk.banks[SOUTH] = shop.desk.banks[BANK]  # now both are banks of one currency
        with pytest.raises(PeerError, match=f"{Refusal.WRONG_BANK}: name the bank: {BANK}, {SOUTH}"):
            await shop.orders.place("", "USD", [SONG])
        assert PaymentLink.parse((await shop.orders.place(BANK, "USD", [SONG]))[0].link).bank == BANK
    finally:
        await founded.stop_shop()
        await south.stop()


async def test_an_order_of_a_bank_that_the_settings_name_no_more_cannot_be_paid(founded: Town) -> None:
    south = South(founded)
    await south.found()
    await founded.start_bank()
    await south.start()
    await founded.start_shop()
    sight = await choose(founded.shop.orders, "verse", bank=SOUTH)
    await founded.stop_shop()
    founded.shop_banks.pop()
    await founded.start_shop()
    now = await seen(founded.shop.orders, sight)
    assert (now.stage, now.link) == ("waiting", "")
    await founded.stop_shop()
    await south.stop()


async def test_a_file_goes_with_the_order_and_the_receipt_says_where_it_is(town: Town, orders: Orders) -> None:
    (town.folder / "shop/goods/song.flac").write_bytes(b"fLaC")
    (town.folder / "shop/goods/.hidden").write_bytes(b"")
    lines = [Line("A song", 11, file="song.flac"), Line("A song once more", 11, file="song.flac")]
    sight, _ = await orders.place(BANK, "USD", [*lines, Line("A word", 1, goods="Thank you.")])
    assert sight.order.files == ("song.flac",)
    assert sight.sale.goods == "Download it from the page of your order.\nThank you."
    with pytest.raises(PeerError, match=Refusal.UNKNOWN_ITEM):
        await orders.place(BANK, "USD", [Line("A secret", 11, file=".hidden")])


async def test_the_offer_is_the_shops_own_word(orders: Orders, clock: VirtualClock) -> None:
    sight, _ = await orders.place("", "USD", [Line("A song", 11, 2)])
    payreq = PaymentLink.parse(sight.link).unverified
    assert payreq == Payreq.decode(Signed.decode(orders.link(sight.sale).payreq).statement)
    assert (payreq.order, payreq.amount, payreq.expires) == (("2 × A song",), 22, clock.now() + 15 * 60_000)
