"""Our bank, merchant and wallet, as processes of their own, pass the suites that are for strangers.

Everything on the embedded broker and a part on mosquitto; with ECASH_CONFORM=full everything on both.
"""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as Xml

import pytest

from agents.bank import home as bank_home
from agents.bank.rotation import rotate
from agents.bank.service import open_books
from agents.client.service import create as create_wallet
from agents.invitation import hash_invitation, write_invitation
from agents.merchant import home as shop_home
from agents.world import SystemClock, SystemEntropy
from docs.warm import shim
from protocol.keyset import Keyset
from tests.conftest import Rig
from tests.processes.process import PASSPHRASE, Finished, Processes, agent, processes

FULL: Final = os.environ.get("ECASH_CONFORM") == "full"
DAY_MS: Final = 86_400_000
CATALOG: Final = """
[[item]]
sku = "tea"
title = "A cup of tea"
price = "0.05 USD"
"""


@pytest.fixture
async def started() -> AsyncIterator[Processes]:
    async with processes() as running:
        yield running


def some(rig: Rig, *only: str) -> list[str]:
    """Options that choose cases: all on the embedded broker, on mosquitto a part."""
    everything = FULL or rig.url == rig.log_in("observer")
    return [] if everything else [word for one in only for word in ("--only", one)]


def skipped(junit: Path, done: Finished) -> set[str]:
    """The cases that were skipped; none may have failed."""
    report = Xml.parse(junit).getroot()
    failed = [case.get("name") for case in report.iter("testcase") if case.find("failure") is not None]
    assert (failed, done.code) == ([], 0), done.stdout + done.stderr
    assert len(list(report.iter("testcase"))) > 0
    return {str(case.get("name")) for case in report.iter("testcase") if case.find("skipped") is not None}


# ---------------------------------------------------------------- bank


class Earlier(SystemClock):
    """A clock that is 400 days late."""

    def now(self) -> int:
        return super().now() - 400 * DAY_MS


async def found_bank(home: Path, settings: bank_home.Settings, secrets: tuple[bytes, bytes]) -> str:
    """Make a bank with an epoch that nobody mints or spends any more, a revoked key, and an epoch that is good."""
    clock, entropy = SystemClock(), SystemEntropy()
    keyset = bank_home.create(home, settings, Earlier(), entropy)
    identity = bank_home.keys_of(home).identity
    history: list[Keyset] = [keyset]
    history.append(rotate(home, keyset, clock.now(), settings))
    history.append(rotate(home, history[-1], clock.now(), settings, revoked=[keyset.denominations[0].id]))
    async with open_books(home, clock) as books:
        for one in history:
            await books.add_keyset(one.number, bank_home.sign_keyset(identity, one))
        client = await books.open_account("client", "client", "A client", "USD", b"", hash_invitation(secrets[0]))
        await books.credit(client.number, 500, "cash")
        await books.open_account("merchant", "merchant", "A merchant", "USD", b"", hash_invitation(secrets[1]))
    return str(bank_home.address_of(settings, identity))


async def test_our_bank_conforms(rig: Rig, tmp_path: Path, started: Processes, unique: str) -> None:
    name, secrets = f"bank-{unique}", (os.urandom(16), os.urandom(16))
    settings = bank_home.Settings(
        name,
        "USD",
        str(rig.log_in(name)),
        presence=os.urandom(12).hex(),
        withdrawal_commission="10%",
        deposit_commission="10%",
        exchange_commission="4%",
        refund_commission="3%",
        redemption_commission="2%",
        payout_commission="0.01",
        largest_denomination=4,
        max_coins=40,
        mint_days=365,
        spend_days=390,
        redeem_days=1095,
    )
    address = await found_bank(tmp_path / "bank", settings, secrets)
    bank = await started.start(agent("bank", "run", "--home", tmp_path / "bank"))
    await bank.logs("is open")
    client, merchant = map(write_invitation, secrets)
    junit, restart = tmp_path / "bank.xml", tmp_path / "restart"
    options = ["--client-invitation", client, "--merchant-invitation", merchant, "--junit", junit]
    if FULL:
        restart.write_text(_RESTART.format(pid=bank.pid, command=shlex.join(bank_again(tmp_path)), folder=tmp_path))
        options += ["--restart", f"sh {restart}"]
    chosen = some(rig, "§6", "§7.2", "§9", "deposit.credit")
    try:
        done = await started.run(agent("conform", "bank", address, *options, *chosen))
    finally:
        again = tmp_path / "pid"
        if again.exists():
            os.kill(int(again.read_text()), 15)
    late = {"retry.late"}  # its deadline of 2 s may pass before it comes
    lacking = {"withdraw.currency", "redeem.closed", "restart.answers"} | late
    assert skipped(junit, done) <= lacking - ({"restart.answers"} if FULL else set())


_RESTART: Final = """\
kill -9 {pid}
: >{folder}/again.log
setsid {command} >>{folder}/again.log 2>&1 &
echo $! >{folder}/pid
until grep -q "is open" {folder}/again.log; do sleep 0.1; done
"""


def bank_again(folder: Path) -> list[str]:
    return agent("bank", "run", "--home", folder / "bank")


# ---------------------------------------------------------------- merchant


async def test_our_merchant_conforms(rig: Rig, tmp_path: Path, started: Processes, unique: str) -> None:
    bank, shop, home = f"bank-{unique}", f"shop-{unique}", tmp_path / "conform"
    prepared = await started.does(
        agent(
            *("conform", "merchant", "init", shop, "--home", home, "--json", "--name", bank),
            *("--broker", rig.log_in(bank), "--largest-denomination", 4),
        )
    )
    told, entropy = prepared.last_json, SystemEntropy()
    settings = shop_home.Settings(
        shop, [told["address"]], str(rig.log_in(shop)), presence=os.urandom(12).hex(), offer_minutes=0.5 if FULL else 30
    )
    shop_home.create(tmp_path / "shop", settings, entropy)
    (tmp_path / "shop" / "catalog.toml").write_text(CATALOG)
    junit = tmp_path / "merchant.xml"
    grant = shlex.join(agent("merchant", "refund", "{payment_id}", "--home", tmp_path / "shop"))
    suite = await started.start(
        agent(
            *("conform", "merchant", "run", shop, "--home", home, "--junit", junit, "--grant", grant),
            *("--wait", 60 if FULL else 0),
            *some(rig, "§10", "pay.receipt", "pay.repeats"),
        )
    )
    await suite.says("may start now")
    merchant = ("merchant", "run", "--home", tmp_path / "shop", "--invitation", told["invitation"])
    await started.start(agent(*merchant))
    code = await suite.ended(within_s=600)
    lacking = skipped(junit, Finished(code, "\n".join(suite.said), suite.log))
    assert lacking <= (set() if FULL else {"pay.late"})


# ---------------------------------------------------------------- wallet


@pytest.fixture
async def warm(tmp_path: Path, started: Processes) -> Path:
    """A command that is carried out as a process of its own, but starts at once."""
    socket, script = tmp_path / "warm", tmp_path / "ecash"
    await started.start([sys.executable, "-P", "-m", "docs.warm", str(socket)], PYTHONPATH=os.getcwd())
    await started.does(["sh", "-c", f"until [ -e {socket} ]; do sleep 0.1; done"])
    shim(script, socket)
    return script


async def test_our_wallet_conforms(rig: Rig, tmp_path: Path, started: Processes, warm: Path) -> None:
    entropy = SystemEntropy()
    await create_wallet(tmp_path / "wallet", PASSPHRASE, entropy.bytes(16), entropy, hard=False)
    junit = tmp_path / "wallet.xml"
    command = agent(
        *("conform", "wallet", "--command", f"{warm} wallet", "--junit", junit),
        *("--broker", rig.log_in("conform"), "--shop-broker", rig.log_in("conform-shop")),
        *some(rig, "§8", "§9.1", "pay.parcel", "privacy.presence"),
    )
    suite = await started.start(command, ECASH_WALLET_HOME=str(tmp_path / "wallet"))
    code = await suite.ended(within_s=600)
    assert not skipped(junit, Finished(code, "\n".join(suite.said), suite.log))


def test_what_is_listed_is_what_there_is() -> None:
    listed = asyncio.run(_listed())
    assert re.search(r"^8 +account\.claim ", listed, re.MULTILINE)


async def _listed() -> str:
    async with processes() as running:
        return (await running.does(agent("conform", "bank", "--list", "--only", "§8"))).stdout
