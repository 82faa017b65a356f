import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from agents.home import HomeError
from agents.merchant import home as shop_home
from agents.merchant.home import Settings, new_web_keys, web_keys, webhook_secret
from agents.merchant.outbox import Notice, Outbox
from agents.merchant.store import Change, MerchantStore
from agents.merchant.webhook import BACKOFF_MS, Courier, headers
from agents.world import SystemClock
from tests.agents.merchant.web_shop import choose, pay_by_link, until
from tests.agents.world import Town, cash, running
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy

URL: Final = "https://shop.example/ecash"
KEY: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Rig:
    """An outbox, and a server that notes what it hears and answers as it is told to."""

    def __init__(self, file: MerchantStore) -> None:
        self.file = file
        self.clock = VirtualClock(SystemClock().now())  # the independent check looks at the time, too
        self.outbox = Outbox(file, self.clock)
        self.heard: list[httpx.Request] = []
        self.answers: list[Answer] = []
        self.entropy = SeededEntropy("courier")

    async def serve(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(request)
        answer = self.answers.pop(0)(request) if self.answers else httpx.Response(204)
        return answer if isinstance(answer, httpx.Response) else await answer

    async def enter(self, *order_ids: str) -> None:
        """Enter a notice of each of these orders."""
        now = self.clock.now()
        made = [
            Notice(0, f"msg_{self.entropy.bytes(16).hex()}", one, "order.paid", b'{"type":"order.paid"}', now, now)
            for one in order_ids
        ]
        await self.file.save(Change(notices=made))
        self.outbox.bell.set()

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.serve)) as client:
            courier = Courier(self.outbox, URL, webhook_secret(KEY), client, self.clock, self.entropy)
            async with running(courier.run()):
                yield

    async def attempted(self, attempts: int, number: int = 1) -> Notice:
        """Wait until a notice was attempted so often, and return it."""
        async with asyncio.timeout(120):
            while True:
                [notice] = [one for one in await self.outbox.notices() if one.number == number]
                if notice.attempts >= attempts:
                    return notice

    def told(self) -> list[str]:
        """The ids of what was heard."""
        return [request.headers["webhook-id"] for request in self.heard]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with MerchantStore(tmp_path / "sales.db") as file:
        yield Rig(file)


def status(code: int, **parts: str) -> Answer:
    return lambda _: httpx.Response(code, headers=parts)


async def test_an_independent_library_takes_the_webhook_for_ours_and_no_other(rig: Rig) -> None:
    await rig.enter("a")
    async with rig.delivering():
        notice = await rig.attempted(1)
    [request] = rig.heard
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/json"
    sent = dict(request.headers)
    assert Webhook(KEY).verify(request.content, sent) == json.loads(notice.body)
    for body, key in ((request.content + b" ", KEY), (request.content, KEY.replace("M", "N"))):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, sent)
    assert (notice.state, notice.delivered_at, notice.attempts) == ("delivered", rig.clock.now(), 1)


def test_the_signature_is_the_one_that_other_libraries_make() -> None:
    # github.com/standard-webhooks/standard-webhooks, the tests of its libraries
    key, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    made = headers(webhook_secret(key), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_what_fails_is_sent_again_with_longer_and_longer_pauses_and_then_given_up(rig: Rig) -> None:
    rig.answers = [status(500)] * (len(BACKOFF_MS) + 1)
    await rig.enter("a")
    async with rig.delivering():
        for attempts, pause in enumerate(BACKOFF_MS, 1):
            notice = await rig.attempted(attempts)
            assert (notice.state, notice.error) == ("waiting", "answered 500")
            assert pause <= notice.next_at - rig.clock.now() <= pause * 6 // 5
            rig.clock.advance(notice.next_at - rig.clock.now())
        last = await rig.attempted(len(BACKOFF_MS) + 1)
        assert (last.state, last.next_at, last.error) == ("failed", 0, "answered 500")
        assert len(set(rig.told())) == 1
        seconds = [int(request.headers["webhook-timestamp"]) for request in rig.heard]
        assert seconds == sorted(set(seconds)), "each attempt is signed at its own time"
        await rig.outbox.again(last.number)
        async with asyncio.timeout(120):
            while not (notice := (await rig.outbox.notices())[0]).delivered_at:
                pass
    assert (notice.state, notice.attempts, notice.error) == ("delivered", 1, "")


async def test_nothing_is_sent_before_its_time(rig: Rig) -> None:
    rig.answers = [status(500)]
    await rig.enter("a")
    async with rig.delivering():
        notice = await rig.attempted(1)
        rig.clock.advance(notice.next_at - rig.clock.now() - 1)
        await rig.enter("b")
        await rig.attempted(1, number=2)
        assert len(rig.heard) == 2
        rig.clock.advance(1)
        await rig.attempted(2)
    assert rig.told()[0] == rig.told()[2] != rig.told()[1]


async def test_notices_of_one_order_keep_their_order_and_others_do_not_wait(rig: Rig) -> None:
    rig.answers = [status(503)]
    await rig.enter("a", "a", "b")
    async with rig.delivering():
        await rig.attempted(1, number=3)
        first = await rig.attempted(1)
        assert [notice.attempts for notice in await rig.outbox.notices()] == [1, 0, 1]
        rig.clock.advance(first.next_at - rig.clock.now())
        await rig.attempted(1, number=2)
    numbers = {notice.id: notice.number for notice in await rig.outbox.notices()}
    assert [numbers[one] for one in rig.told()] == [1, 3, 1, 2]


async def _silence(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


def _raise(error: Exception) -> Answer:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(302, location="https://evil.example/"), "answered 302"),
        (status(199), "answered 199"),
        (status(300), "answered 300"),
        (status(410), "answered 410"),
        (_raise(httpx.ConnectError("connection refused")), "ConnectError: connection refused"),
        (_raise(httpx.RemoteProtocolError("x" * 1000)), "RemoteProtocolError: " + "x" * 179),
        (_raise(httpx.ReadTimeout("slow")), "no answer within 1 seconds"),
        (_raise(httpx.InvalidURL("no host")), "InvalidURL: no host"),
        (_silence, "no answer within 1 seconds"),
    ],
)
async def test_only_a_success_in_time_is_one(
    rig: Rig, answer: Answer, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.merchant.webhook.PATIENCE_S", 1.0)
    rig.answers = [answer]
    await rig.enter("a")
    async with rig.delivering():
        notice = await rig.attempted(1)
    assert (notice.state, notice.error) == ("waiting", error)
    assert len(rig.heard) == 1


async def test_an_endless_answer_is_not_read(rig: Rig) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)

    rig.answers = [lambda _: httpx.Response(200, content=endless())]
    await rig.enter("a")
    async with rig.delivering():
        assert (await rig.attempted(1)).state == "delivered"


async def test_a_full_disk_stops_no_courier(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: Notice) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await rig.enter("a")
    monkeypatch.setattr(rig.outbox, "record", full)
    async with rig.delivering():
        async with asyncio.timeout(120):
            while not rig.clock._sleepers:  # the courier's alarm, in a minute
                await rig.outbox.notices()
        monkeypatch.undo()
        rig.clock.advance(60_000)
        assert (await rig.attempted(1)).state == "delivered"
    assert len(rig.heard) == 2
    assert len(set(rig.told())) == 1, "told twice, but with one id"


async def test_a_webhook_that_was_not_delivered_is_after_a_restart(founded: Town) -> None:
    await founded.start_bank()
    await founded.start_shop(webhook=URL)
    async with founded.open_wallet("alice") as alice:
        await founded.customer(alice, "alice", 100)
        await cash(alice, 40)
        sight = await choose(founded.shop.orders)
        await pay_by_link(alice, sight)
    await until(founded.shop.orders, sight, "accepted")
    [entered] = await founded.shop.outbox.notices()
    await founded.stop_shop()
    await founded.start_shop(webhook=URL)
    rig = Rig(founded.sales)
    rig.clock.advance(max(0, entered.next_at - rig.clock.now()))
    async with rig.delivering():
        delivered = await rig.attempted(1)
    assert (delivered.id, delivered.state) == (entered.id, "delivered")
    assert json.loads(rig.heard[0].content)["data"]["id"] == sight.order.id


# ---------------------------------------------------------------- the home's part


def test_the_keys_of_the_web_are_made_once_and_replaced_at_will(tmp_path: Path) -> None:
    entropy = SeededEntropy("keys")
    keys = web_keys(tmp_path, entropy)
    assert web_keys(tmp_path, entropy) == keys
    assert (tmp_path / "keys/web.toml").stat().st_mode & 0o777 == 0o600
    assert keys.api.startswith("sk_")
    assert len(bytes.fromhex(keys.api[3:])) == len(webhook_secret(keys.webhook)) == 32
    assert not {keys.office, keys.api, keys.webhook} & set(repr(keys).split("'"))
    replaced = new_web_keys(tmp_path, entropy)
    assert not {keys.office, keys.api, keys.webhook} & {replaced.office, replaced.api, replaced.webhook}
    assert web_keys(tmp_path, entropy) == replaced
    (tmp_path / "keys/web.toml").write_text('office = "mine"\n')
    with pytest.raises(HomeError, match=r"web\.toml"):
        web_keys(tmp_path, entropy)


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("webhook", "https://shop.example/ecash?x=1", True),
        ("webhook", "http://localhost:8000/ecash", True),
        ("webhook", "http://shop.localhost/", True),
        ("webhook", "http://[::1]:8000/", True),
        ("webhook", "http://shop.example/", False),
        ("webhook", "http://localhost.evil.example/", False),
        ("webhook", "ftp://localhost/", False),
        ("webhook", "shop.example", False),
        ("public_url", "https://shop.example", True),
        ("public_url", "http://shop.localhost:8080/", True),
        ("public_url", "https://shop.example/shop", False),
        ("public_url", "https://shop.example?", False),
        ("public_url", "https://shop.example:0", False),
        ("public_url", "https://user@shop.example", False),
    ],
)
def test_addresses_in_the_settings_are_checked(tmp_path: Path, name: str, value: str, good: bool) -> None:
    lines = ['name = "shop"', "banks = []", 'broker = "mqtt://127.0.0.1"', 'presence = "x"', f'{name} = "{value}"']
    (tmp_path / "merchant.toml").write_text("\n".join(lines))
    if good:
        assert getattr(shop_home.settings_of(tmp_path), name) == value
    else:
        with pytest.raises(HomeError, match=f"{name}: it looks like"):
            shop_home.settings_of(tmp_path)


def test_settings_of_before_the_web_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "merchant.toml").write_text('name = "shop"\nbanks = []\nbroker = "b"\npresence = "x"\n')
    assert shop_home.settings_of(tmp_path) == Settings("shop", [], "b", "x")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('file = "song.flac"', ""),
        ('file = "song.flac"\ngoods = "Enjoy."', ""),
        ('file = "other.flac"', "is no file"),
        ('file = "../catalog.toml"', "is no file"),
        ('file = "folder"', "is no file"),
        (f'description = "{"x" * 501}"', "longer than 500"),
        (f'goods = "{"x" * 2001}"', "longer than 2,000"),
    ],
)
def test_files_and_descriptions_of_the_catalogue_are_checked(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "goods/folder").mkdir(parents=True)
    (tmp_path / "goods/song.flac").write_bytes(b"fLaC")
    (tmp_path / "catalog.toml").write_text(f'[[item]]\nsku = "song"\ntitle = "A song"\nprice = "1.00 USD"\n{line}\n')
    if says:
        with pytest.raises(HomeError, match=says):
            shop_home.catalog_of(tmp_path)
        return
    stocked = shop_home.catalog_of(tmp_path)["song"]
    assert stocked.file == "song.flac"
    assert stocked.text == (stocked.goods or "Download it from the page of your order.")
