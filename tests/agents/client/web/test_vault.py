"""The vault: one user at a time, and nothing secret in it once it is locked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.client.service import open_unlocked
from agents.client.web.telling import Locked
from agents.client.web.vault import Vault
from agents.home import HomeError, HomeInUse, locked
from protocol.derivation import Root
from tests.agents.world import Town, running
from tests.simulation.clock import VirtualClock

from .browser import PASSPHRASE, Browser


@pytest.fixture
async def vault(owner: Browser) -> Vault:
    return owner.vault


async def forever() -> None:
    await asyncio.Event().wait()


async def settled(vault: Vault) -> None:
    """Let whatever can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_only_the_passphrase_unlocks_it(vault: Vault) -> None:
    vault.lock()
    with pytest.raises(Locked):
        async with vault.wallet():
            pass
    async with vault.store() as store:
        assert await store.banks() == [], "looking takes no passphrase"
    assert "not this wallet’s passphrase" in await vault.unlock("wrong")
    with pytest.raises(Locked):
        async with vault.wallet():
            pass
    assert await vault.unlock(PASSPHRASE) == ""
    async with vault.wallet() as wallet:
        assert wallet.banks == []


async def test_one_passphrase_is_tried_at_a_time_and_pages_go_on_meanwhile(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    trying, most = 0, 0

    async def slow(home: Path, passphrase: str) -> Root:
        nonlocal trying, most
        trying += 1
        most = max(most, trying)
        await asyncio.sleep(0)
        trying -= 1
        return Root(bytes(64))

    monkeypatch.setattr("agents.client.web.vault.unlock", slow)
    await asyncio.gather(*(vault.unlock("guess") for _ in range(5)))
    assert most == 1


async def test_a_home_without_a_wallet_is_told(visitor: Browser) -> None:
    assert not visitor.vault.exists
    assert "holds no wallet" in await visitor.vault.unlock(PASSPHRASE)


async def test_one_at_a_time_uses_it(vault: Vault) -> None:
    inside = 0

    async def use() -> None:
        nonlocal inside
        async with vault.wallet():
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(use(), use(), use())


async def test_who_waits_for_too_long_is_told(vault: Vault) -> None:
    async with vault.wallet():
        vault._patience_s = 0.01
        with pytest.raises(HomeInUse, match="busy"):
            async with vault.wallet():
                pass
    with locked(vault._home), pytest.raises(HomeInUse, match="busy"):
        async with vault.wallet():
            pass


async def test_it_waits_for_a_command_that_uses_the_wallet(owner: Browser, town: Town) -> None:
    vault, command = owner.vault, contextlib.AsyncExitStack()
    assert vault._root is not None
    opening = open_unlocked(owner.home, vault._root, town.clock, town.entropy("command"))
    await command.enter_async_context(opening)

    async def use() -> bool:
        async with vault.wallet():
            return True

    waiting = asyncio.create_task(use())
    await settled(vault)
    assert not waiting.done()
    await command.aclose()
    assert await waiting


async def test_what_a_page_raises_inside_reaches_the_page(vault: Vault) -> None:
    with pytest.raises(TimeoutError, match="mine"):
        async with vault.wallet():
            raise TimeoutError("mine")
    async with vault.wallet():
        pass


class TestWorkInTheBackground:
    async def test_is_found_by_its_name_while_it_goes_on_and_when_it_has_ended(self, vault: Vault) -> None:
        async def work() -> int:
            return 7

        task = vault.start("sum", work())
        assert vault.task("sum") is task
        assert await task == 7
        assert vault.task("sum") is task
        assert vault.task("other") is None

    async def test_ends_when_the_vault_is_locked(self, vault: Vault) -> None:
        task = vault.start("long", forever())
        vault.lock()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vault.task("long") is None

    async def test_makes_place_for_another_of_the_same_name(self, vault: Vault) -> None:
        first = vault.start("long", forever())
        second = vault.start("long", forever())
        await settled(vault)
        assert first.cancelled()
        assert not second.done()

    async def test_is_forgotten_when_there_is_much_newer_work_but_never_while_it_goes_on(self, vault: Vault) -> None:
        async def nothing() -> None:
            pass

        long = vault.start("long", forever())
        for number in range(100):
            await vault.start(str(number), nothing())
        assert vault.task("long") is long
        assert not long.done()
        assert vault.task("0") is None
        assert vault.task("99") is not None

    async def test_that_fails_is_logged_and_may_be_tried_again(
        self, vault: Vault, caplog: pytest.LogCaptureFixture
    ) -> None:
        tries = 0

        async def work() -> int:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise HomeError("the home is away")
            return tries

        failed = await vault.once("work", work)
        assert isinstance(failed.exception(), HomeError)
        assert "work has failed: the home is away" in caplog.text
        assert (await vault.once("work", work)).result() == 2
        assert (await vault.once("work", work)).result() == 2, "it has been done"
        assert (await vault.once("work", work, again=True)).result() == 3

    async def test_that_locking_has_ended_is_told_to_who_waits_for_it(self, vault: Vault) -> None:
        waiting = asyncio.create_task(vault.once("long", forever))
        await settled(vault)
        vault.lock()
        with pytest.raises(Locked):
            await waiting


class TestLeftAlone:
    @pytest.fixture
    async def run(self, vault: Vault) -> AsyncIterator[None]:
        async with running(vault.run()):
            await settled(vault)
            yield

    async def test_it_locks_itself_when_nobody_has_its_pages_open(
        self, owner: Browser, run: None, clock: VirtualClock
    ) -> None:
        clock.advance(5_000)
        await settled(owner.vault)
        assert owner.vault.unlocked, "a session is open"
        clock.advance(20 * 60_000)
        await settled(owner.vault)
        assert not owner.vault.unlocked

    async def test_it_tends_the_coins_while_it_is_unlocked(
        self,
        owner: Browser,
        run: None,
        clock: VirtualClock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        passes, failing = asyncio.Queue[str](), [RuntimeError("a bug"), None]

        async def keep(keeper: object) -> None:
            passes.put_nowait("begun")
            error = failing.pop(0)
            if error is not None:
                raise error
            await forever()

        monkeypatch.setattr("agents.client.web.vault.Keeper.run", keep)
        for _ in range(8):
            await owner.get("/")
            clock.advance(5_000)
            await settled(owner.vault)
        assert passes.qsize() == 1
        assert "tending has failed: a bug" in caplog.text
        for _ in range(20):
            await owner.get("/")
            clock.advance(5_000)
            await settled(owner.vault)
        assert passes.qsize() == 2, "that it failed has not ended the site, and it is tried again"
        task = owner.vault.task("tending")
        assert task is not None
        assert not task.done()
        owner.vault.lock()
        await settled(owner.vault)
        assert task.cancelled()

    async def test_it_is_locked_in_the_end(self, owner: Browser) -> None:
        async with running(owner.vault.run()):
            task = owner.vault.start("long", forever())
            await settled(owner.vault)
        assert task.cancelled()
        assert not owner.vault.unlocked
