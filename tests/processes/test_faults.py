"""A full disk, a database that somebody holds, a stop in the middle, a broker that forgets or tells old news.

After each of them everything goes on by itself, and the books are right to the cent. A few cases of each kind run every
day; `make crash` runs all.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from broker.address import BrokerUrl
from broker.mosquitto import add_password
from tests.conftest import free_port

from .disturbing import fill, held, is_sound, small_disk, writing_nowhere
from .process import FULL, Process, agent, processes
from .test_crash import ENDS, POINTS, SERVERS, WALLET_COMMANDS
from .world import Templates, World, running_broker, world_for

STOP_S: Final = 60.0
"""How long an agent may take to stop where the machine is busy; else it takes a second or two."""

KEEPALIVE_S: Final = 30
SILENCE_S: Final = 1.5 * KEEPALIVE_S + 15
"""A pause that every timeout is shorter than: a broker gives a client up after one and a half keepalives."""

full_only = pytest.mark.skipif(not FULL, reason="takes long; ECASH_CRASH=full or `make crash` runs it")


async def shopping(world: World, kind: str) -> Process:
    """Let Alice withdraw or buy, as a process that tells its trace points."""
    command = agent("client", *WALLET_COMMANDS[kind], "--home", world.wallet, "--log", "debug")
    return await world.processes.start(command)


async def finish(world: World, kind: str, wallet: Process) -> None:
    """Wait for the end of it all; what the wallet left open its next command carries on."""
    await wallet.ended()
    looked = await world.look()
    assert looked.code == 0, f"{wallet.log}\n{looked}"
    await world.close()
    ENDS[kind](await world.reckon())


DISKS: Final = {
    "bank": ("withdraw", "the books are unavailable"),
    "shop": ("pay", "full"),
}
"""Whose disk is full in what, and what the log says then."""


@pytest.mark.parametrize("name", DISKS)
async def test_a_server_whose_disk_is_full_goes_on_when_there_is_space(
    name: str, templates: Templates, tmp_path: Path
) -> None:
    kind, told = DISKS[name]
    async with world_for(kind, templates, tmp_path) as world:
        with small_disk(tmp_path / name):
            await world.open(*SERVERS[kind])
            filler = fill(tmp_path / name)
            wallet = await shopping(world, kind)
            await world.agents[name].logs(told)
            assert world.agents[name].running
            filler.unlink()
            await finish(world, kind, wallet)
            assert all(is_sound(path) for path in (tmp_path / name).glob("*.db"))


@pytest.mark.parametrize("kind", ["withdraw", "pay"])
async def test_a_wallet_whose_disk_is_full_says_so_and_loses_nothing(
    kind: str, templates: Templates, tmp_path: Path
) -> None:
    async with world_for(kind, templates, tmp_path) as world:
        with small_disk(world.wallet):
            await world.open(*SERVERS[kind])
            filler = fill(world.wallet)
            failed = await world.customer(*WALLET_COMMANDS[kind])
            assert failed.code == 1, failed
            assert "Is the disk full" in failed.stderr
            assert "Traceback" not in failed.stderr
            filler.unlink()
            assert is_sound(world.wallet / "wallet.db")
            await finish(world, kind, await shopping(world, kind))


@pytest.mark.parametrize("kind", ["withdraw", "pay"])
async def test_a_disk_that_is_full_when_the_answer_comes_delays_it(
    kind: str, templates: Templates, tmp_path: Path
) -> None:
    async with world_for(kind, templates, tmp_path) as world:
        with small_disk(world.wallet):
            await world.open(*SERVERS[kind])
            world.agents["bank"].send(signal.SIGSTOP)
            wallet = await shopping(world, kind)
            await wallet.logs(f"wallet.{kind}.sent")
            filler = fill(world.wallet)
            world.agents["bank"].send(signal.SIGCONT)
            assert await wallet.ended() == 1
            assert "Traceback" not in wallet.log
            filler.unlink()
            assert is_sound(world.wallet / "wallet.db")
            await finish(world, kind, wallet)


async def test_a_log_that_cannot_be_written_stops_nobody(templates: Templates, tmp_path: Path) -> None:
    async with world_for("withdraw", templates, tmp_path) as world:
        command = agent("bank", "run", "--home", world.bank, "--log", "debug")
        world.agents["bank"] = await world.processes.start(writing_nowhere(*command))
        await finish(world, "withdraw", await shopping(world, "withdraw"))


LOCKS: Final = {"bank": ("withdraw", "books.db", "locked"), "shop": ("pay", "sales.db", "locked")}


@pytest.mark.parametrize("name", ["bank", pytest.param("shop", marks=full_only)])
async def test_a_server_whose_database_somebody_holds_goes_on_afterwards(
    name: str, templates: Templates, tmp_path: Path
) -> None:
    kind, database, told = LOCKS[name]
    async with world_for(kind, templates, tmp_path) as world:
        await world.open(*SERVERS[kind])
        with held(tmp_path / name / database):
            wallet = await shopping(world, kind)
            await world.agents[name].logs(told)
        await finish(world, kind, wallet)


async def test_a_wallet_whose_file_somebody_holds_says_so(templates: Templates, tmp_path: Path) -> None:
    async with world_for("withdraw", templates, tmp_path) as world:
        await world.open("bank")
        with held(world.wallet / "wallet.db"):
            failed = await world.customer(*WALLET_COMMANDS["withdraw"])
        assert failed.code == 1, failed
        assert "locked" in failed.stderr
        assert "Traceback" not in failed.stderr
        await finish(world, "withdraw", await shopping(world, "withdraw"))


def _cases(*daily: tuple[str, str]) -> list[object]:
    """All points of withdrawal and purchase, by exchange and name; on other days than `make crash`'s only some."""
    every = [(kind, point) for (kind, _), points in POINTS.items() for point in points]
    return [pytest.param(*case, marks=() if case in daily else full_only) for case in dict.fromkeys(every)]


def _who(kind: str, point: str) -> str:
    return next(name for (of_kind, name), points in POINTS.items() if of_kind == kind and point in points)


@pytest.mark.parametrize(
    ("kind", "point"), _cases(("withdraw", "bank.withdraw.posting"), ("pay", "merchant.depositing.saved"))
)
async def test_a_stop_in_the_middle_takes_seconds_and_loses_nothing(
    kind: str, point: str, templates: Templates, tmp_path: Path
) -> None:
    name = _who(kind, point)
    async with world_for(kind, templates, tmp_path) as world:
        await world.open(*SERVERS[kind], log="debug")
        wallet = await shopping(world, kind)
        stopped = wallet if name == "wallet" else world.agents[name]
        await stopped.logs(point)
        code = await stopped.stop(within_s=STOP_S)
        assert code == 0 or stopped is wallet
        assert "Traceback" not in stopped.log
        if stopped is not wallet:
            await world.launch(name)
        await finish_stopped(world, kind, wallet)


async def finish_stopped(world: World, kind: str, wallet: Process) -> None:
    """As `finish`; a wallet that was stopped before it had written anything down begins again."""
    await wallet.ended()
    async with world.wallet_here() as opened:
        began = any(row.kind == kind for row in await opened.store.exchanges())
    await finish(world, kind, wallet if began else await shopping(world, kind))


@asynccontextmanager
async def at_mosquitto(kind: str, templates: Templates, folder: Path) -> AsyncIterator[tuple[World, "Mosquitto"]]:
    """A world at a mosquitto of its own, which can be killed."""
    async with processes() as started:
        with ExitStack() as stack:
            broker = Mosquitto(folder / "broker", stack)
            log_ins = {who: broker.log_in(who) for who in ("bank", "shop")}
            template = templates.credited if kind == "withdraw" else templates.with_coins
            yield template.move(folder, broker.url, started, **log_ins), broker


class Mosquitto:
    """A mosquitto that can be killed and started again, with what it has kept, with nothing, or with what is old."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self._stack, self._port = home, stack, free_port()
        self.kept = home / "mosquitto.db"
        self.url = BrokerUrl("127.0.0.1", self._port)
        self.start()

    def start(self) -> None:
        self.process = self._stack.enter_context(running_broker("mosquitto", self._port, self.home))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Let it save what it keeps, and end."""
        self.process.terminate()
        self.process.wait()

    def log_in(self, name: str) -> BrokerUrl:
        return BrokerUrl("127.0.0.1", self._port, name, add_password(self.home, name))


@pytest.mark.mosquitto
@pytest.mark.parametrize("forgets", [False, True], ids=["keeps", "forgets"])
@pytest.mark.parametrize(
    ("kind", "point"), _cases(("withdraw", "bank.books.committed"), ("pay", "merchant.depositing.saved"))
)
async def test_the_broker_may_die_at_every_step(
    kind: str, point: str, forgets: bool, templates: Templates, tmp_path: Path
) -> None:
    name = _who(kind, point)
    async with at_mosquitto(kind, templates, tmp_path) as (world, broker):
        await world.open(*SERVERS[kind], log="debug")
        wallet = await shopping(world, kind)
        await (wallet if name == "wallet" else world.agents[name]).logs(point)
        broker.kill()
        if forgets:
            broker.kept.unlink(missing_ok=True)
        broker.start()
        await finish(world, kind, wallet)


@pytest.mark.mosquitto
async def test_a_broker_that_comes_back_with_an_old_file_changes_nothing(templates: Templates, tmp_path: Path) -> None:
    opened, old = "bank.withdraw.opened", tmp_path / "old.db"
    async with at_mosquitto("withdraw", templates, tmp_path) as (world, broker):
        await world.open("bank", log="debug")
        bank = world.agents["bank"]
        bank.send(signal.SIGSTOP)
        wallet = await shopping(world, "withdraw")
        await wallet.logs("wallet.withdraw.sent")
        broker.stop()
        shutil.copy(broker.kept, old)
        broker.start()
        bank.send(signal.SIGCONT)
        assert await wallet.ended() == 0, wallet.log
        answered = sum(opened in line for line in bank.logged)
        broker.kill()
        shutil.copy(old, broker.kept)
        broker.start()
        await bank.logs(opened, times=answered + 1)  # nobody has asked again
        await finish(world, "withdraw", wallet)


@full_only
@pytest.mark.mosquitto
@pytest.mark.parametrize("name", ["bank", "shop", "broker"])
async def test_a_pause_longer_than_every_timeout_loses_nothing(name: str, templates: Templates, tmp_path: Path) -> None:
    async with at_mosquitto("pay", templates, tmp_path) as (world, broker):
        await world.open("bank", "shop", log="debug")
        wallet = await shopping(world, "pay")
        await wallet.logs("wallet.pay.paying")  # before that nothing would need to be finished
        pid = broker.process.pid if name == "broker" else world.agents[name].pid
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(SILENCE_S)
        os.kill(pid, signal.SIGCONT)
        await finish(world, "pay", wallet)
