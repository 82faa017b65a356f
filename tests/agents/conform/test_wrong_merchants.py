"""A merchant, or a wallet, that breaks one rule is caught by the case that is there for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agents.address import BankAddress
from agents.bank.service import open_books
from agents.conform.case import Notes
from agents.conform.merchant.cases import merchant_suite
from agents.conform.merchant.visit import Wish, visiting_shop
from agents.conform.played import beside
from agents.conform.runner import Outcome, run_cases
from agents.conform.wallet.cases import wallet_suite
from agents.conform.wallet.visit import visiting_wallet
from agents.home import save_settings
from agents.invitation import hash_invitation
from agents.merchant import banks, till
from agents.merchant import desk as desks
from agents.merchant import home as shop_home
from agents.merchant.service import serve
from agents.world import SystemClock, SystemEntropy
from broker.address import BrokerUrl
from protocol.keyset import KeyRing, fingerprint, read_keyset
from protocol.merchant import sale
from protocol.messages import Signed, Verdict
from tests.agents.world import BANK, SETTINGS, mint

INVITATION = bytes(16)
CATALOG = '[[item]]\nsku = "tea"\ntitle = "A cup of tea"\nprice = "0.05 USD"\n'


def played_home(folder: Path, url: BrokerUrl, presence: str) -> Path:
    """The home of the bank of all tests, for the suite to play at a broker."""
    home = folder / "bank"
    shutil.copytree(mint().folder, home)
    save_settings(home, "bank", msgspec.structs.replace(SETTINGS, broker=str(url), presence=presence))
    return home


async def outcomes(url: BrokerUrl, folder: Path, unique: str, *only: str) -> dict[str, Outcome]:
    name, shop, home = f"shop-{unique}", folder / "shop", played_home(folder, url, unique)
    notes, clock, entropy = Notes(), SystemClock(), SystemEntropy()
    async with open_books(home, clock) as books:
        await books.add_keyset(0, mint().announcement)
        await books.open_account("merchant", name, "The shop", "USD", b"", hash_invitation(INVITATION))
    address = BankAddress(BANK, url, fingerprint(mint().keyset.identity))
    shop_home.create(shop, shop_home.Settings(name, [str(address)], str(url), presence=unique), entropy)
    (shop / "catalog.toml").write_text(CATALOG)
    async with (
        beside(serve(shop, clock, entropy, {BANK: INVITATION})),
        visiting_shop(home, Wish(name), notes, clock, entropy) as visit,
    ):
        found = await run_cases(merchant_suite().chosen(only), visit, notes)
    return {result.case.id: result.outcome for result in found}


# ---------------------------------------------------------------- what is broken


async def never_known(self: desks.Desk, request: desks.Request) -> None:
    """Take no deadline and no earlier answer into account."""


def unverified(signed: Signed, identity: bytes, digest: bytes) -> Verdict:
    """Read a verdict without looking who has signed it, and on what."""
    return Verdict.decode(signed.statement)


async def accept_anything(address: BankAddress, announced: bytes, known: KeyRing | None) -> KeyRing:
    """Follow every keyset."""
    return KeyRing(read_keyset(announced))


Break = Callable[[pytest.MonkeyPatch], None]
WRONG: dict[str, Break] = {
    "order.expired": lambda patch: patch.setattr(desks.Desk, "known", never_known),
    "pay.altered": lambda patch: patch.setattr(sale, "agrees", lambda *_: True),
    "pay.forged-verdict": lambda patch: patch.setattr(till, "open_verdict", unverified),
    "keyset.refused": lambda patch: patch.setattr(banks, "accept", accept_anything),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_merchant_that_breaks_a_rule_is_caught(
    case: str, embedded_url: BrokerUrl, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[case](monkeypatch)
    assert await outcomes(embedded_url, tmp_path, unique, case) == {case: Outcome.FAILED}


async def test_a_merchant_that_breaks_no_rule_passes_the_same_cases(
    embedded_url: BrokerUrl, tmp_path: Path, unique: str
) -> None:
    found = await outcomes(embedded_url, tmp_path, unique, *WRONG)
    assert found == dict.fromkeys(found, Outcome.PASSED)
    assert found.keys() == WRONG.keys()


@pytest.mark.parametrize("command", ["true", "false", "no-such-command"])
async def test_a_wallet_that_does_nothing_is_caught(
    command: str, embedded_url: BrokerUrl, tmp_path: Path, unique: str
) -> None:
    home, notes = played_home(tmp_path, embedded_url, unique), Notes()
    async with open_books(home, SystemClock()) as books:
        await books.add_keyset(0, mint().announcement)
    async with visiting_wallet(home, str(embedded_url), command, notes, SystemClock(), SystemEntropy()) as visit:
        found = await run_cases(wallet_suite().chosen(["register", "privacy.ids"]), visit, notes)
    assert {result.outcome for result in found} == {Outcome.FAILED}
