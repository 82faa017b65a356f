from pathlib import Path

import pytest

from agents.client.seed import WrongPassphrase, entropy_of, root_of
from agents.client.service import backup, create, open_store, open_wallet, restore_backup, restore_seed
from agents.client.store import WalletStore
from agents.client.wallet import Wallet
from agents.home import HomeError
from agents.world import SystemClock, SystemEntropy
from protocol.derivation import Root
from tests.agents.world import Town, cash
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy

ENTROPY = bytes(range(16))


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    await create(tmp_path / "wallet", "correct horse", ENTROPY, SeededEntropy("home"), hard=False)
    return tmp_path / "wallet"


async def test_the_words_of_a_new_wallet_are_those_of_its_seed(tmp_path: Path) -> None:
    words = await create(tmp_path / "new", "pass", ENTROPY, SystemEntropy(), hard=False)
    assert entropy_of(words) == ENTROPY
    with pytest.raises(HomeError, match="not empty"):
        await create(tmp_path / "new", "pass", ENTROPY, SystemEntropy(), hard=False)


async def test_only_the_passphrase_opens_the_wallet(home: Path) -> None:
    with pytest.raises(WrongPassphrase):
        async with open_wallet(home, "wrong", SystemClock(), SystemEntropy()):
            pass
    async with open_wallet(home, "correct horse", SystemClock(), SystemEntropy()) as wallet:
        assert wallet.root.account(bytes(32)) == root_of(ENTROPY).account(bytes(32))


async def test_one_process_at_a_time_uses_a_wallet_and_others_may_look(home: Path) -> None:
    async with open_wallet(home, "correct horse", SystemClock(), SystemEntropy()):
        with pytest.raises(HomeError, match="in use"):
            async with open_wallet(home, "correct horse", SystemClock(), SystemEntropy()):
                pass
        async with open_store(home) as store:
            assert await store.holdings() == []
    async with open_wallet(home, "correct horse", SystemClock(), SystemEntropy()):
        pass


async def test_a_folder_without_a_wallet_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="holds no wallet"):
        async with open_store(tmp_path):
            pass
    async with WalletStore(tmp_path / "wallet.db"):
        pass
    with pytest.raises(HomeError, match="never finished"):
        async with open_store(tmp_path):
            pass


async def test_nothing_in_the_wallets_files_spends(home: Path, town: Town, clock: VirtualClock) -> None:
    root = root_of(ENTROPY)
    async with WalletStore(home / "wallet.db") as store:
        wallet = Wallet(store, root, town._client, clock, SeededEntropy("use"))
        await wallet.start()
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 31)
        held = await store.coins("north", "USD")
        row = await town.buy(wallet)
        assert not row.open
        written = bytes_in(home)  # with the write-ahead log
    written += bytes_in(home)
    assert all(coin.coin.serial in written for coin in held), "what is searched is what was written"
    for secret in secrets_of(root, [(coin.request_id, coin.position) for coin in held], row.id):
        assert secret not in written


def bytes_in(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.iterdir())


def secrets_of(root: Root, coins: list[tuple[bytes, int]], pay_id: bytes) -> list[bytes]:
    """All that derives from the seed and must not be in a file."""
    words = "abandon amount liar amount expire adjust cage candy arch gather drum buyer"
    assert entropy_of(words) == ENTROPY
    coin_secrets = [root.coin(*coin) for coin in coins] + [root.pss_salt(*coin) for coin in coins]
    blinding = [root.blinding(request_id, index, 0, 256)[:32] for request_id, index in coins]
    codes = [root.payer_code(pay_id).encode(), root.payer_salt(pay_id), root.evidence_key(pay_id)]
    return [ENTROPY, words.encode(), root._key, root.account(bytes(32)), *codes, *coin_secrets, *blinding]


class TestABackup:
    async def test_it_is_a_copy_that_only_its_owner_reads_made_while_the_wallet_is_in_use(
        self, home: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "copy"
        async with open_wallet(home, "correct horse", SystemClock(), SystemEntropy()):
            await backup(home, file)
        assert file.stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "copy-wal").exists(), "it is one file"
        with pytest.raises(HomeError, match="exists already"):
            await backup(home, file)
        with pytest.raises(HomeError, match="cannot be written"):
            await backup(home, tmp_path / "nowhere" / "copy")

    async def test_it_comes_back_as_another_device_whose_coins_are_not_verified(
        self, home: Path, tmp_path: Path, town: Town, clock: VirtualClock
    ) -> None:
        async with WalletStore(home / "wallet.db") as store:
            wallet = Wallet(store, root_of(ENTROPY), town._client, clock, SeededEntropy("use"))
            await wallet.start()
            await town.customer(wallet, "alice", 100)
            await cash(wallet, 31)
            device = await store.meta("device")
        await backup(home, tmp_path / "copy")
        await restore_backup(tmp_path / "new", tmp_path / "copy", SystemEntropy())
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["wallet.db"]
        async with open_wallet(tmp_path / "new", "correct horse", SystemClock(), SystemEntropy()) as wallet:
            assert {state for _, _, state, _, _ in await wallet.store.holdings()} == {"unverified"}
            assert await wallet.store.meta("device") != device
            assert wallet.bank().row.generation == 0, "no bank serves it before it has taken over"
        with pytest.raises(HomeError, match="wallet recover"):
            await restore_backup(tmp_path / "new", tmp_path / "copy", SystemEntropy())

    async def test_a_file_that_is_none_is_told_and_another_try_may_follow(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "photo").write_bytes(b"a photo" * 1000)
        for wrong in ("photo", "nothing"):
            with pytest.raises(HomeError, match="no backup of a wallet"):
                await restore_backup(tmp_path / "new", tmp_path / wrong, SystemEntropy())
        async with WalletStore(tmp_path / "half"):
            pass
        with pytest.raises(HomeError, match="never finished"):
            await restore_backup(tmp_path / "new", tmp_path / "half", SystemEntropy())
        await backup(home, tmp_path / "copy")
        await restore_backup(tmp_path / "new", tmp_path / "copy", SystemEntropy())
        with pytest.raises(HomeError, match="holds a wallet"):
            await restore_backup(home, tmp_path / "copy", SystemEntropy())


async def test_words_bring_a_wallet_back_and_an_interrupted_restore_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "new"
    for _ in range(2):
        await restore_seed(home, "pass", ENTROPY, SystemEntropy(), hard=False)
    async with open_wallet(home, "pass", SystemClock(), SystemEntropy()) as wallet:
        assert wallet.root.account(bytes(32)) == root_of(ENTROPY).account(bytes(32))
    with pytest.raises(HomeError, match="other words"):
        await restore_seed(home, "pass", bytes(16), SystemEntropy(), hard=False)
    with pytest.raises(WrongPassphrase):
        await restore_seed(home, "another", ENTROPY, SystemEntropy(), hard=False)
    async with WalletStore(home / "wallet.db") as store:
        await store.write(lambda db: db.execute("DELETE FROM meta"))
    await restore_seed(home, "another", ENTROPY, SystemEntropy(), hard=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    with pytest.raises(HomeError, match="not empty"):
        await restore_seed(tmp_path / "full", "pass", ENTROPY, SystemEntropy(), hard=False)
