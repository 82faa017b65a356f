"""kill -9 loses nothing, in what else is done with coins: change, refund, recovery, transfer, payout, new keys.

Each world lives through many deaths, one after the other; after every one the books are checked to the cent.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.client.seed import entropy_of, seal_seed
from agents.client.store import FREE, WalletStore
from agents.world import SystemEntropy
from broker.embedded import embedded_broker
from tests.conftest import free_port

from .process import PASSPHRASE, agent, processes
from .scenarios import (
    SCENARIOS,
    Deaths,
    Refund,
    Scenario,
    buy_albums,
    check,
    coins_in,
    last_of,
    name_destination,
    sale_in,
)
from .world import BIG, CHEAP, Templates, World


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


@asynccontextmanager
async def rich_world(templates: Templates, folder: Path) -> AsyncIterator[World]:
    """A world of the rich Alice, at a broker of its own."""
    _make(folder)
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            yield templates.rich.move(folder, url, started)


@pytest.mark.parametrize("kind", SCENARIOS)
async def test_an_exchange_survives_every_death(kind: type[Scenario], templates: Templates, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for name, ways in kind.deaths.items():
            if name == "wallet":
                group.create_task(_wallet_dies(kind, ways, templates, tmp_path / name))
            else:
                # The last point first: from there no way leads to an earlier one, so that one exchange sees few deaths.
                points = [point for deaths in ways for point in deaths][::-1]
                group.create_task(server_dies(kind, name, points, templates, tmp_path / name))


async def server_dies(
    kind: type[Scenario], name: str, points: Sequence[str], templates: Templates, folder: Path
) -> None:
    """Have exchanges, one after the other, until bank or shop has died at every point."""
    async with rich_world(templates, folder) as world:
        scenario = kind(world)
        await world.open("bank", "shop")
        await scenario.begin()
        assert await world.agents[name].stop() == 0
        await world.launch(name, points[0])
        async with asyncio.TaskGroup() as group:
            supervisor = group.create_task(_restart(world, name, points))
            for _ in (number for number in range(2 * len(points)) if not supervisor.done()):
                await scenario.prepare()
                await scenario.act()
                await check(world)
        await world.close()
        await check(world)


async def _restart(world: World, name: str, points: Sequence[str]) -> None:
    for point, crash_at in zip(points, (*points[1:], ""), strict=True):
        assert await world.agents[name].ended() == -signal.SIGKILL, point
        await world.launch(name, crash_at)


async def _wallet_dies(kind: type[Scenario], ways: Sequence[Deaths], templates: Templates, folder: Path) -> None:
    async with rich_world(templates, folder) as world:
        scenario = kind(world)
        await world.open("bank", "shop")
        await scenario.begin()
        for deaths in ways:
            await scenario.prepare()
            words = scenario.command()
            for crash_at in deaths:
                died = await world.customer(*words, crash_at=crash_at)
                assert died.code == -signal.SIGKILL, f"the wallet at {crash_at}: {died}"
                words = scenario.again()
            done = await world.customer(*words)
            assert done.code == 0, f"the wallet after {deaths}: {done}"
            await check(world)
            await scenario.settle()
        await world.close()
        await check(world)


RESTORING: Deaths = (
    "wallet.seed.saving",
    "wallet.seed.saved",
    "wallet.account.saving",
    "wallet.account.saved",
    "wallet.recover.entered",
    "wallet.verify.weeded",
    "wallet.redeem.requested",
    "wallet.redeem.sent",
)


async def test_a_wallet_is_restored_however_often_that_is_broken_off(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank", "shop")
        await buy_albums(world)
        shutil.rmtree(world.wallet)
        command = agent("client", "restore", "--bank", world.address, "--yes", "--gap", "2", "--home", world.wallet)
        for crash_at in RESTORING:
            died = await world.processes.run(command, crash_at, ECASH_WORDS=templates.words)
            assert died.code == -signal.SIGKILL, f"{crash_at}: {died}"
            if crash_at == "wallet.seed.saved":
                await _open_faster(world.wallet, templates.words)
        done = await world.processes.run(command, ECASH_WORDS=templates.words)
        assert done.code == 0, done
        await world.close()
        await check(world)
        assert all(state != FREE for _, _, state in coins_in(world.wallet))


async def _open_faster(home: Path, words: str) -> None:
    """Seal the wallet's seed anew, so that opening it takes no time; how it was sealed makes no difference here."""
    entropy = SystemEntropy()
    with CHEAP:
        sealed = seal_seed(entropy_of(words), PASSPHRASE, entropy.bytes(16), entropy.bytes(24), hard=False)
    async with WalletStore(home / "wallet.db") as store:
        await store.set_meta("seed", sealed.encode())


BACKED_UP: Deaths = ("wallet.backup.naming", "wallet.account.saving", "wallet.verify.weeded", "wallet.exchange.sent")


async def test_a_backup_is_restored_however_often_that_is_broken_off(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank", "shop")
        saved = world.folder / "wallet.backup"
        await world.processes.does(agent("client", "backup", saved, "--home", world.wallet))
        await buy_albums(world)
        shutil.rmtree(world.wallet)
        first, *later = BACKED_UP
        restore = ("restore", "--backup", saved, "--yes", "--gap", "2")
        assert (await world.customer(*restore, crash_at=first)).code == -signal.SIGKILL
        assert (await world.customer(*restore, crash_at=later[0])).code == -signal.SIGKILL
        again = ("register", world.address, "--take-over")
        assert (await world.customer(*again)).code == 0
        for crash_at in later[1:]:
            died = await world.customer("recover", "--keep", "--gap", "2", crash_at=crash_at)
            assert died.code == -signal.SIGKILL, f"{crash_at}: {died}"
        done = await world.customer("recover", "--keep", "--gap", "2")
        assert done.code == 0, done
        await world.close()
        await check(world)


GRANTED = "merchant.grant.saved"


async def test_a_refund_is_granted_once_though_its_command_dies(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank", "shop")
        scenario = Refund(world)
        await scenario.begin()
        grant = agent("merchant", "refund", sale_in(world), "0.30", "--home", world.shop)
        assert (await world.processes.run(grant, GRANTED)).code == -signal.SIGKILL
        assert (await world.processes.run(grant)).code == 1
        await world.agents["bank"].stop()
        credit = ("credit", "1002", "0.10", "--reference", "the shop's", "--home", world.bank)
        await world.processes.does(agent("bank", *credit))
        await world.launch("bank")
        await scenario.act()
        await world.close()
        await check(world, paid_out=-10)


TRANSFERRING: dict[str, tuple[str, ...]] = {
    "giving": ("wallet.transfer.saving", "wallet.transfer.sent"),
    "claiming": (
        "wallet.counter.used",
        "wallet.exchange.requested",
        "wallet.exchange.sent",
        "wallet.exchange.exchanged",
    ),
    "taking back": ("wallet.transfer.closing", "wallet.transfer.takenback", "wallet.exchange.sent"),
    "asking": ("wallet.request.saved", "wallet.request.taken", "wallet.exchange.exchanged", "wallet.request.closing"),
    "closing": ("wallet.transfer.closing", "wallet.transfer.claimed"),
}


async def _send(world: World, crash_at: str = "", *words: object) -> str:
    """Let Alice give a coin away; return the token, unless she dies of it."""
    sent = await world.customer("send", f"{BIG / 100:.2f}", *words, "--json", crash_at=crash_at)
    assert sent.code == (-signal.SIGKILL if crash_at else 0), sent
    return str(last_of(sent.stdout)["token"]) if not crash_at else ""


async def _transfers(world: World, state: str) -> list[str]:
    listed = await world.processes.does(agent("client", "transfers", "--json", "--home", world.wallet))
    return [str(row["id"]) for row in listed.last_json if row["state"] == state]


def _bob(world: World, *words: object) -> list[str]:
    return agent("client", *words, "--home", world.bob)


async def test_a_token_survives_the_deaths_of_both_sides(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank")
        for crash_at in TRANSFERRING["giving"]:
            await _send(world, crash_at)
            await check(world)
        [lost] = await _transfers(world, "sent")
        for crash_at in TRANSFERRING["taking back"]:
            exchanging = crash_at == "wallet.exchange.sent"
            words = ("recover", "--keep", "--gap", "1") if exchanging else ("take-back", lost)
            died = await world.customer(*words, crash_at=crash_at)
            assert died.code == -signal.SIGKILL, f"{crash_at}: {died}"
        assert (await world.look()).code == 0
        await check(world)
        for crash_at in TRANSFERRING["claiming"]:
            token = await _send(world)
            died = await world.processes.run(_bob(world, "receive", token), crash_at)
            assert died.code == -signal.SIGKILL, f"{crash_at}: {died}"
            done = await world.processes.run(_bob(world, "receive", token))
            assert done.code == 0, done
            await check(world)
        claimed = await _transfers(world, "sent")
        for crash_at, transfer in zip(TRANSFERRING["closing"], claimed, strict=False):
            died = await world.customer("take-back", transfer, crash_at=crash_at)
            assert died.code == -signal.SIGKILL, f"{crash_at}: {died}"
        for transfer in claimed:
            assert (await world.customer("take-back", transfer)).code == 0
        await world.close()
        await check(world)
        assert len(await _transfers(world, "claimed")) == len(claimed)
        assert await _transfers(world, "takenback") == [lost]


async def test_a_request_survives_the_deaths_of_both_sides(templates: Templates, tmp_path: Path) -> None:
    saved, *later = TRANSFERRING["asking"]
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank")
        died = await world.processes.run(_bob(world, "request", "0.16", "--json"), saved)
        assert died.code == -signal.SIGKILL
        asking = await world.processes.start(_bob(world, "request", "0.16", "--json"), later[0])
        await asking.says("ECASHREQ")
        request = str(last_of("\n".join(asking.said))["request"])
        await _send(world, "wallet.transfer.sent", "--to", request)  # it dies before anything is published
        send = agent("client", "send", "--to", request, "--home", world.wallet)
        sending = await world.processes.start(send)
        assert await asking.ended() == -signal.SIGKILL
        for crash_at in later[1:]:
            waiting = await world.processes.start(_bob(world, "receive"), crash_at)
            assert await waiting.ended() == -signal.SIGKILL, waiting.log
        await sending.stop(signal.SIGKILL)  # who would have acknowledged it is dead
        for transfer in await _transfers(world, "sent"):
            assert (await world.customer("take-back", transfer)).code == 0
        await check(world)
        assert [len(await _transfers(world, state)) for state in ("sent", "takenback", "claimed")] == [0, 1, 1]
        received = sum(value for _, value, state in coins_in(world.bob) if state == FREE)
        assert received == BIG - 1
        await world.close()


PAYING_OUT: dict[str, tuple[str, ...]] = {
    "asking": ("merchant.payout.saving", "merchant.payout.requested", "merchant.payout.saving:2"),
    "told": ("merchant.payout.queued",),
    "booking": ("bank.books.before_commit", "bank.books.committed"),
}


async def test_a_payout_moves_money_once_whoever_dies(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        await world.open("bank", "shop")
        await buy_albums(world, 2)
        await name_destination(world)
        ask = agent("merchant", "payout", "0.10", "--home", world.shop, "--json")
        for crash_at in PAYING_OUT["asking"]:
            assert (await world.processes.run(ask, crash_at)).code == -signal.SIGKILL, crash_at
            await check(world)
        await world.processes.does(ask)
        await check(world)
        small = agent("merchant", "payout", "0.01", "--home", world.shop, "--json")
        assert (await world.processes.run(small, PAYING_OUT["told"][0])).code == -signal.SIGKILL
        await check(world)
        await _book(world, "export", "--out", world.folder / "payouts.ach")
        csv = world.folder / "settled.csv"
        csv.write_text("trace,amount_cents,settled_on\n1,10,2026-11-24\n2,1,2026-11-24\n")
        await _book(world, "import", csv)
        payouts = (await world.processes.does(agent("bank", "ach", "list", "--json", "--home", world.bank))).last_json
        assert [(row["amount"], row["state"], row["file"]) for row in payouts] == [
            (1, "settled", 1),
            (10, "settled", 1),
        ]
        await world.close()
        await check(world, paid_out=11)


async def _book(world: World, *words: object) -> None:
    """Run `bank ach` until it is through, and die on the way."""
    command = agent("bank", "ach", *words, "--json", "--home", world.bank)
    for crash_at in PAYING_OUT["booking"]:
        assert (await world.processes.run(command, crash_at)).code == -signal.SIGKILL, crash_at
    await world.processes.does(command)


CREDITING: Deaths = ("bank.books.before_commit", "bank.books.committed")


async def test_money_that_has_come_is_credited_once_though_the_command_dies(
    templates: Templates, tmp_path: Path
) -> None:
    async with rich_world(templates, tmp_path) as world:
        credit = agent("bank", "credit", "1001", "0.10", "--reference", "cash 2", "--home", world.bank, "--json")
        for crash_at in CREDITING:
            assert (await world.processes.run(credit, crash_at)).code == -signal.SIGKILL, crash_at
        assert (await world.processes.does(credit)).last_json["booked"] is False
        await check(world, paid_out=-10)


ROTATING: Deaths = ("bank.key.written", "bank.key.written:3", "bank.books.before_commit", "bank.books.committed")
ADOPTING: Deaths = ("bank.keyset.adopting", "bank.keyset.adopted")
REVOKING: Deaths = ("bank.books.committed", "bank.key.deleted")


async def test_new_keys_survive_the_deaths_of_operator_and_bank(templates: Templates, tmp_path: Path) -> None:
    async with rich_world(templates, tmp_path) as world:
        rotate = agent("bank", "rotate", "--home", world.bank, "--json")
        for crash_at in ROTATING:
            assert (await world.processes.run(rotate, crash_at)).code == -signal.SIGKILL, crash_at
        await world.open("bank", "shop")
        for crash_at in ADOPTING:
            assert await world.agents["bank"].stop() == 0
            await world.launch("bank", crash_at)
            await world.processes.does(rotate)
            assert await world.agents["bank"].ended() == -signal.SIGKILL
            await world.launch("bank")
        shown = await world.processes.does(agent("bank", "keys", "--json", "--home", world.bank))
        assert shown.last_json["keyset"] == 1 + len(ADOPTING)
        assert (await world.customer("withdraw", "0.31")).code == 0
        await buy_albums(world)
        revoke = agent("bank", "revoke", "--value", "0.16", "--yes", "--home", world.bank)
        for command, crash_at in zip((revoke, rotate), REVOKING, strict=True):  # any new keyset deletes what is left
            assert (await world.processes.run(command, crash_at)).code == -signal.SIGKILL, crash_at
        await world.processes.does(agent("bank", "keys", "--home", world.bank))
        assert await world.agents["bank"].stop() == 0
        await world.launch("bank")
        recovered = await world.customer("recover", "--keep", "--gap", "1")
        assert recovered.code == 0, recovered
        assert not any(value == BIG and state == FREE for _, value, state in coins_in(world.wallet))
        assert (await world.customer("withdraw", "0.31")).code == 0
        await buy_albums(world)
        await world.close()
        await check(world)


HIT: frozenset[str] = frozenset(
    point.partition(":")[0]
    for group in (
        *(deaths for kind in SCENARIOS for ways in kind.deaths.values() for deaths in ways),
        RESTORING,
        BACKED_UP,
        (GRANTED,),
        *TRANSFERRING.values(),
        *PAYING_OUT.values(),
        CREDITING,
        ROTATING,
        ADOPTING,
        REVOKING,
    )
    for point in group
)
"""All trace points where somebody dies here."""
