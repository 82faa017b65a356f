"""What the README tells people to type, typed: separate processes, a real broker, and the figures in the end."""

import base64
import signal
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from mnemonic import Mnemonic

from broker.address import BrokerUrl
from broker.mosquitto import NotInstalled, find
from tests.conftest import free_port

from .process import PASSPHRASE, Finished, Process, Processes, agent, ecash, processes
from .world import Templates, check_bought, check_withdrawn, running_broker, world_for

CODE: Final = "a payer code that nobody reads"
ALICE: Final = "Alice Liddell"
GOODS: Final = b"https://shop.example/download/bluesky.flac"

SIGNALS: Final = [signal.SIGTERM, signal.SIGINT]


class Terminals:
    """A person's terminals: in one commands are typed, in each of the others something runs."""

    def __init__(self, folder: Path, engine: str, processes: Processes) -> None:
        self.folder, self.engine, self.port = folder, engine, free_port()
        self.running: list[Process] = []
        self.passwords: list[str] = []
        self.processes = processes

    def command(self, role: str, *words: object) -> list[str]:
        return ecash(role, *words, "--home", self.folder / role)

    async def type(self, role: str, *words: object) -> Finished:
        """Type a command that must succeed."""
        return await self.processes.does(self.command(role, *words))

    async def run(self, role: str, *words: object) -> Process:
        """Run something in a terminal of its own."""
        process = await self.processes.start(self.command(role, "run", *words))
        self.running.append(process)
        return process

    async def url(self, name: str) -> str:
        """The broker's address, with a log-in if it knows any."""
        if self.engine == "embedded":
            return f"mqtt://127.0.0.1:{self.port}"
        granted = (await self.type("broker", "grant", name, "--port", self.port)).stdout.strip()
        self.passwords.append(granted.partition("@")[0].rpartition(":")[2])
        return granted


async def test_a_song_is_bought_by_hand_and_the_books_are_right_to_the_cent(tmp_path: Path) -> None:
    need("mosquitto_sub")
    engine = "mosquitto" if installed("mosquitto") else "embedded"
    async with processes() as started:
        here = Terminals(tmp_path, engine, started)
        await (await here.run("broker", "--engine", engine, "--port", here.port)).says("Ctrl-C ends it")
        watcher = await watch(here)
        words, invitations = await open_shop_and_wallet(here, watcher)
        await here.type("wallet", "withdraw", "20.00")
        paid = await here.type("wallet", "pay", "shop", "song", "--yes", "--code", CODE)
        assert GOODS.decode() in paid.stdout
        await check_books(here)
        await watcher.stop()
        texts = (words, CODE, ALICE, PASSPHRASE, *invitations, *here.passwords)
        check_traffic(watcher.said, [*secrets_in(tmp_path, words), GOODS, *map(str.encode, texts)])
        for process in reversed(here.running):
            assert await process.stop() == 0, process.log
        assert left_running(tmp_path) == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("engine", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
async def test_a_broker_that_is_stopped_leaves_nothing_running(
    engine: str, number: signal.Signals, tmp_path: Path
) -> None:
    if engine == "mosquitto":
        need("mosquitto")
    async with processes() as started:
        here = Terminals(tmp_path, engine, started)
        broker = await here.run("broker", "--engine", engine, "--port", here.port)
        await broker.says("Ctrl-C ends it")
        assert len(left_running(tmp_path)) > 1
        assert await broker.stop(number) == 0
        assert left_running(tmp_path) == []


def need(program: str) -> None:
    """Skip the test without this program."""
    if not installed(program):
        pytest.skip(f"{program} is not installed: apt install mosquitto mosquitto-clients")


def installed(program: str) -> bool:
    try:
        return bool(find(program))
    except NotInstalled:
        return False


async def watch(here: Terminals) -> Process:
    """Start `mosquitto_sub`, where the broker has rights under the observer's log-in."""
    log_in: tuple[str, ...] = ()
    if here.engine == "mosquitto":
        await here.url("observer")
        log_in = ("-i", "observer-by-hand", "-u", "observer", "-P", here.passwords[-1])
    options = ("-V", "5", "-p", str(here.port), *log_in, "-v", "-t", "ecash/v1/#", "-F", "%t %x")
    return await here.processes.start([find("mosquitto_sub"), *options])


async def open_shop_and_wallet(here: Terminals, watcher: Process) -> tuple[str, list[str]]:
    """Go through the README until Alice has a wallet; return its words, and the invitations."""
    commission = ("--withdrawal-commission", "1%", "--deposit-commission", "0.5%")
    await here.type("bank", "init", *commission, "--broker", await here.url("bank"), "--largest-denomination", "11")
    opened = ("bank", "open-account", "--json")
    alice = (await here.type(*opened, "alice", "--title", ALICE)).last_json
    shop = (await here.type(*opened, "shop", "--kind", "merchant", "--title", "Blue Note Records")).last_json
    await here.type("bank", "credit", alice["account"], "50.00", "--reference", "cash 1")
    await (await here.run("bank")).logs("is open")
    await watcher.says("ecash/v1/bank/status")
    address = (await here.type("bank", "address")).stdout.strip()
    await here.type("merchant", "init", "shop", "--bank", address, "--broker", await here.url("shop"))
    await (await here.run("merchant", "--invitation", shop["invitation"])).logs("is open")
    words: str = (await here.type("wallet", "init", "--json")).last_json["words"]
    await here.type("wallet", "register", address, "--invitation", alice["invitation"])
    return words, [alice["invitation"], shop["invitation"]]


async def check_books(here: Terminals) -> None:
    accounts = (await here.type("bank", "accounts", "--json")).last_json
    balances = {row["name"]: row["balance"] for row in accounts}
    assert balances == {"alice": 50_00 - 20_00 - 20, "shop": 12_34 - 6}
    assert (await here.type("bank", "audit", "--json")).last_json["ok"] is True
    sales = (await here.type("merchant", "sales", "--json")).last_json
    assert [(sale["state"], sale["amount"]) for sale in sales] == [("sold", 12_34)]
    held = (await here.type("wallet", "balance", "--json")).last_json
    assert sum(row["value"] * row["count"] for row in held) == 20_00 - 12_34


def check_traffic(lines: Iterable[str], secrets: Iterable[bytes]) -> None:
    """Everything that was published was seen, and nothing secret, in no spelling."""
    seen = [line.split(" ") for line in lines if line.startswith("ecash/v1/")]
    topics = [topic for topic, _ in seen]
    assert {"ecash/v1/bank/keys", "ecash/v1/bank/status", "ecash/v1/shop/catalog", "ecash/v1/shop/status"} <= {*topics}
    kinds = [topic.split("/") for topic in topics]
    asked = [words[-2] for words in kinds if words[2] != "reply" and len(words) > 4]
    assert sorted(set(asked)) == ["account", "deposit", "order", "pay", "withdraw"]
    assert sum(words[2] == "reply" for words in kinds) >= len(set(asked))
    traffic = b"".join(topic.encode() + bytes.fromhex(payload) for topic, payload in seen)
    for secret in secrets:
        assert len(secret) >= 12
        for spelt in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
            assert spelt not in traffic


def secrets_in(folder: Path, words: str) -> Iterator[bytes]:
    """The keys of bank and merchant, the wallet's seed, and its coins."""
    for path in (*folder.glob("*/keys/*"), *folder.glob("bank/keys/envelope/*")):
        if path.is_file():
            yield path.read_bytes()[-32:]
    for path in folder.glob("bank/keys/denomination/*"):
        key = load_der_private_key(path.read_bytes(), password=None)
        assert isinstance(key, RSAPrivateKey)
        yield key.private_numbers().p.to_bytes(128)
    mnemonic = Mnemonic("english")
    yield bytes(mnemonic.to_entropy(words))
    yield mnemonic.to_seed(words)
    with closing(sqlite3.connect(folder / "wallet/wallet.db")) as db:
        for serial, signature in db.execute("SELECT serial, signature FROM coin"):
            yield from (serial, signature)


def left_running(folder: Path) -> list[str]:
    """The command lines of processes that speak of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [line for line in found if str(folder) in line]


@pytest.mark.parametrize("number", SIGNALS)
async def test_bank_and_shop_stop_when_asked(number: signal.Signals, templates: Templates, tmp_path: Path) -> None:
    async with world_for("pay", templates, tmp_path) as world:
        await world.open("bank", "shop")
        for process in world.agents.values():
            assert await process.stop(number) == 0
            assert "stopped" in process.logged[-1]


@pytest.mark.parametrize("number", SIGNALS)
async def test_they_stop_when_the_broker_is_gone_too(
    number: signal.Signals, templates: Templates, tmp_path: Path
) -> None:
    port = free_port()
    with running_broker("embedded", port, tmp_path / "broker") as broker:
        async with processes() as started:
            world = templates.credited.move(tmp_path, BrokerUrl("127.0.0.1", port), started)
            await world.open("bank", "shop")
            broker.kill()
            broker.wait()
            for process in world.agents.values():
                assert await process.stop(number) == 0


async def test_one_home_takes_one_process(templates: Templates, tmp_path: Path) -> None:
    async with world_for("pay", templates, tmp_path) as world:
        await world.open("bank", "shop")
        for role, home in (("bank", world.bank), ("merchant", world.shop)):
            second = await world.processes.run(agent(role, "run", "--home", home))
            assert second.code == 1
            assert second.stderr.splitlines() == [f"error: {home} is in use by another process: one at a time"]
        assert (await world.buy()).open is False
        await world.close()
        check_bought(await world.reckon())


async def test_a_wallet_in_use_says_so_and_ctrl_c_loses_nothing(templates: Templates, tmp_path: Path) -> None:
    async with world_for("withdraw", templates, tmp_path) as world:
        await world.open("bank")
        world.agents["bank"].send(signal.SIGSTOP)
        withdraw = ("withdraw", "0.20", "--home", world.wallet)
        waiting = await world.processes.start(agent("client", *withdraw, "--log", "debug"))
        await waiting.logs("wallet.withdraw.sent")
        second = await world.processes.run(agent("client", *withdraw))
        assert second.code == 1
        assert second.stderr == f"error: {world.wallet} is in use by another process: one at a time"
        assert await waiting.stop(signal.SIGINT) == 128 + signal.SIGINT
        assert "Traceback" not in waiting.log
        world.agents["bank"].send(signal.SIGCONT)
        assert (await world.look()).code == 0
        await world.close()
        check_withdrawn(await world.reckon())
