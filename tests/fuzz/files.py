"""Targets that are files: settings, catalogues, backups, what the sending bank returns, proofs."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from agents.bank import home as bank_home
from agents.bank.ach import Credit, Destination, parse_originator, read_file, read_returns, read_settlements, write_file
from agents.bank.last_audit import last_audit
from agents.bank.transfers import originator_of
from agents.client.seed import SealedSeed, WrongPassphrase, open_seed, seal_seed
from agents.client.service import open_store, restore_backup
from agents.client.store import WalletStore
from agents.database import NewerSchema, OlderSchema
from agents.home import HomeError, save_settings
from agents.merchant import home as shop_home
from agents.proof import ProofFile, check_proof, proof_text, read_proof
from protocol.errors import PeerError
from protocol.messages import PaymentInfo, Signed, Verdict
from protocol.proof import PaymentProof
from protocol.signatures import Domain
from tests.agents.world import BANK, CATALOG, SETTINGS, SHOP, START, Town
from tests.simulation.entropy import SeededEntropy

from .forms import JSON, RAW, TEXT
from .target import REFUSED, TAKEN, Run, Target, checked

_ODFI: Final = "09100001"
_RETURNED: Final = (
    "101 123456780 0910000192611250930A094101ECASH BANK             FIRST BANK                     \n"
    "5220ECASH BANK                          1234567890CCDPAYOUT          2611243291021000020000001\n"
    "63109100001999               0000000001               Farm & Sons             1021000020000001\n"
    "799R02091000010000018      32227162                                            021000020000001\n"
    "822000000200091000010000000000000000000000011234567890                         021000020000001\n"
    "9000001000001000000020009100001000000000000000000000001                                       "
)


def file_targets(town: Town, folder: Path, info: PaymentInfo) -> list[Target]:
    """The targets; `folder` is theirs."""
    return [*_settings(town, folder), *_ach(), *_reports(town, folder, info), *_wallets(folder)]


def _settings(town: Town, folder: Path) -> Iterator[Target]:
    bank, shop = folder / "bank-home", folder / "shop-home"
    agreed = {
        "ach_destination": "091000019",
        "ach_destination_name": "FIRST BANK",
        "ach_origin": "123456780",
        "ach_company_name": "ECASH BANK",
        "ach_company_id": "1234567890",
        "ach_odfi": _ODFI,
    }
    shop_home.create(shop, shop_home.Settings(SHOP, town.shop_banks, "mqtt://x", "p"), SeededEntropy("files"))
    bank.mkdir()
    save_settings(bank, "bank", msgspec.structs.replace(SETTINGS, **agreed))
    shop_home.web_keys(shop, SeededEntropy("files"))

    def bank_settings() -> None:
        settings = bank_home.settings_of(bank)
        bank_home.tariff_of(settings), bank_home.limits_of(settings), originator_of(bank, settings)
        bank_home.address_of(settings, bytes(32))

    def shop_settings() -> None:
        assert shop_home.settings_of(shop).addresses

    wrong = HomeError, ValueError
    yield _file("bank settings", bank / "bank.toml", bank_settings, *wrong)
    yield _file("shop settings", shop / "merchant.toml", shop_settings, HomeError)
    yield _file("web keys", shop / "keys" / "web.toml", lambda: shop_home.web_keys(shop, SeededEntropy("")), HomeError)
    (shop / "catalog.toml").write_text(CATALOG)
    yield _file("catalogue file", shop / "catalog.toml", lambda: shop_home.catalog_of(shop), HomeError)


def _file(name: str, path: Path, check: Callable[[], object], *expected: type[Exception]) -> Target:
    def read(data: bytes) -> None:
        path.write_bytes(data)
        check()

    return Target(name, [path.read_bytes()], checked(read, *expected), TEXT)


def _ach() -> Iterator[Target]:
    sender = parse_originator("091000019", "FIRST BANK", "123456780", "ECASH BANK", "1234567890", _ODFI)
    credit = Credit(17, Destination("021000021", "12-345A", "checking", "Bob's Books"), 125_000, "payout 17")
    ours = write_file(sender, 3, START, date(2026, 11, 24), [credit])
    settled = b"trace,amount_cents,settled_on\n17,125000,2026-11-24\n18,1,2024-02-29\n"
    returned = _RETURNED.encode()
    yield _ach_file("ACH file", [returned, settled, ours], lambda data: read_file(data, _ODFI))
    yield _ach_file("ACH returns", [returned, ours], lambda data: read_returns(data, _ODFI))
    yield _ach_file("ACH settlements", [settled], read_settlements)


def _ach_file(name: str, good: list[bytes], read: Callable[[bytes], object]) -> Target:
    return Target(name, good, checked(read, ValueError), TEXT)


def _reports(town: Town, folder: Path, info: PaymentInfo) -> Iterator[Target]:
    identity = town.mint.keys.identity
    verdict = Verdict(BANK, info.digest, info.payment_id, info.account, info.currency, info.amount, "", START, b"")
    stated = PaymentProof(BANK, info.encode(), Signed.make(identity, Domain.VERDICT, verdict).encode(), START)
    statement = Signed.make(identity, Domain.PROOF, stated).encode().hex()
    proof = ProofFile(BANK, town.keyset.identity.hex(), statement, str(town.address))
    path, audit = folder / "proof.json", folder / "last-audit.json"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        check_proof(read_proof(path))

    def look(data: bytes) -> None:
        audit.write_bytes(data)
        if last_audit(folder) is None:
            raise ValueError("no audit")

    yield Target("proof file", [proof_text(proof).encode()], checked(check, ValueError), JSON)
    kept = b'{"at":1700000000000,"ok":true,"faults":0,"totals":{}}'
    yield Target("last audit", [kept], checked(look, ValueError), JSON)


# ---------------------------------------------------------------- wallets


def _wallets(folder: Path) -> Iterator[Target]:
    """A backup as a file, and the sealed seed in it."""
    sealed = msgspec.structs.replace(
        seal_seed(bytes(16), "secret", bytes(16), bytes(24), hard=False), ops=1, memory=8192
    )
    yield Target(
        "sealed seed",
        [sealed.encode()],
        checked(lambda data: open_seed(SealedSeed.decode(data), "secret"), PeerError, WrongPassphrase),
    )
    yield Target("wallet backup", [_backup(folder, sealed)], _restoring(folder), RAW)


def _backup(folder: Path, sealed: SealedSeed) -> bytes:
    """Return the file of a wallet that has only just been made."""
    path = folder / "good.db"
    with closing(WalletStore(path)._connection) as db:
        db.execute("INSERT INTO meta VALUES ('device', x'00'), ('seed', ?)", (sealed.encode(),))
        db.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


def _restoring(folder: Path) -> Run:
    file, home = folder / "backup.db", folder / "restored"

    async def run(data: bytes) -> str:
        shutil.rmtree(home, ignore_errors=True)
        file.write_bytes(data)
        try:
            await restore_backup(home, file, SeededEntropy("restored"))
        except (HomeError, NewerSchema, OlderSchema):
            assert file.read_bytes() == data
            return REFUSED
        async with open_store(home) as store:
            await store.banks()
            await store.holdings()
            await store.exchanges()
        return TAKEN

    return run
