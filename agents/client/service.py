"""The wallet's file opened for one command: locked, unlocked, and its open exchanges at hand."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from protocol.derivation import Root
from protocol.errors import PeerError

from ..home import HomeError, locked, make
from ..trace import point
from ..world import Clock, Entropy
from .seed import SealedSeed, open_seed, root_of, seal_seed, words_of
from .store import WalletStore
from .wallet import LinkMaker, Wallet

WALLET_FILE = "wallet.db"
_DRAFT = "restoring.db"
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file makes `sqlite3` raise: the texts in it need not be UTF-8."""


async def create(home: Path, passphrase: str, seed: bytes, entropy: Entropy, *, hard: bool = True) -> str:
    """Make a wallet for a seed of 16 bytes and return the words that its owner must write down.

    Raises:
        HomeError: if the home is not empty.
    """
    make(home)
    await _write_seed(home, passphrase, seed, entropy, hard=hard)
    return words_of(seed)


async def _write_seed(home: Path, passphrase: str, seed: bytes, entropy: Entropy, *, hard: bool) -> None:
    salt, nonce = entropy.bytes(16), entropy.bytes(24)
    sealed = await asyncio.to_thread(seal_seed, seed, passphrase, salt, nonce, hard=hard)
    async with WalletStore(home / WALLET_FILE) as store:
        await store.set_meta("device", entropy.bytes(16))
        point("wallet.seed.saving")
        await store.set_meta("seed", sealed.encode())
        point("wallet.seed.saved")


async def restore_seed(home: Path, passphrase: str, seed: bytes, entropy: Entropy, *, hard: bool = True) -> None:
    """Make a wallet for the seed (16 bytes) of a lost one; if that was interrupted, it may be done again.

    Raises:
        HomeError: if the home holds something else, or another wallet.
        WrongPassphrase: if it was made before, with another passphrase.
    """
    if not (home / WALLET_FILE).exists():
        make(home)
    else:
        async with WalletStore(home / WALLET_FILE) as store:
            sealed = await store.meta("seed")
        if sealed is not None:
            if await asyncio.to_thread(open_seed, _sealed_in(home, sealed), passphrase) != seed:
                raise HomeError(f"{home} holds the wallet of other words: choose another folder with --home")
            return
    await _write_seed(home, passphrase, seed, entropy, hard=hard)


def _sealed_in(home: Path, data: bytes) -> SealedSeed:
    try:
        return SealedSeed.decode(data)
    except PeerError as error:
        raise HomeError(f"the wallet in {home} is damaged: restore it from its words into another folder") from error


async def backup(home: Path, file: Path) -> None:
    """Write a copy of the wallet as it is at this moment, even while it is in use; its seed stays sealed.

    Raises:
        HomeError: if this is no wallet's home, or there is such a file already.
    """

    def copy(source: sqlite3.Connection) -> None:
        with closing(sqlite3.connect(file)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # so that it is one file

    async with open_store(home) as store:
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise HomeError(f"{file} exists already, and might be the only copy: choose another name") from None
        except OSError as error:
            raise HomeError(f"{file} cannot be written: {error.strerror}") from error
        await store.read(copy)


async def restore_backup(home: Path, file: Path, entropy: Entropy) -> None:
    """Make a wallet of a backup: a new device, no coin of which counts before the bank has spoken.

    Raises:
        HomeError: if the home is not empty, or the file is no wallet's backup, or a damaged one.
        NewerSchema, OlderSchema: if another release wrote it.
    """
    draft = _draft_of(home, file)
    try:
        async with WalletStore(draft) as store:
            await store.restored(entropy.bytes(16))
            await store.read(lambda db: db.execute("PRAGMA journal_mode = DELETE").fetchall())
    except _UNREADABLE as error:
        raise HomeError(f"{file} is no backup of a wallet: {error}") from error
    point("wallet.backup.naming")
    draft.rename(home / WALLET_FILE)


def _draft_of(home: Path, file: Path) -> Path:
    """Copy a backup into an empty home, under a name that is not yet a wallet's."""
    for leftover in home.glob(f"{_DRAFT}*"):
        leftover.unlink()
    if (home / WALLET_FILE).exists():
        raise HomeError(f"{home} holds a wallet; if it is one that is half restored, `ecash wallet recover` goes on")
    make(home)
    draft = home / _DRAFT
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
            if source.execute("SELECT count(*) FROM meta WHERE name = 'seed'").fetchone() != (1,):
                raise HomeError(f"{file} is a copy of a wallet that was never finished")
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with closing(sqlite3.connect(draft)) as target:
                source.backup(target)
                if target.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                    raise HomeError(f"{file} is damaged: restore the wallet from its words instead")
    except _UNREADABLE as error:
        raise HomeError(f"{file} is no backup of a wallet: {error}") from error
    return draft


@asynccontextmanager
async def open_store(home: Path) -> AsyncIterator[WalletStore]:
    """Open the wallet's file, to look at it only; that takes no passphrase.

    Raises:
        HomeError: if this is no wallet's home.
    """
    if not (home / WALLET_FILE).exists():
        raise HomeError(f"{home} holds no wallet: run `ecash wallet init --home {home}` first")
    async with WalletStore(home / WALLET_FILE) as store:
        if await store.meta("seed") is None:
            raise HomeError(f"the wallet in {home} was never finished: remove the folder and init again")
        yield store


async def unlock(home: Path, passphrase: str) -> Root:
    """Return the root of a wallet's secrets.

    Raises:
        HomeError: if this is no wallet's home.
        WrongPassphrase: if the passphrase does not open it.
    """
    async with open_store(home) as store:
        sealed = _sealed_in(home, await store.meta("seed") or b"")
    return root_of(await asyncio.to_thread(open_seed, sealed, passphrase))


def connect(broker: BrokerUrl, client_id: str) -> MqttLink:
    """Make an anonymous presence at a broker."""
    return attend(broker, client_id, persistent=False)


def attend(broker: BrokerUrl, client_id: str, /, *, persistent: bool) -> MqttLink:
    """Make an anonymous presence at a broker; a persistent one gets, later on, what came while it was away."""
    return MqttLink(broker, client_id, persistent=persistent)


@asynccontextmanager
async def open_unlocked(
    home: Path, root: Root, clock: Clock, entropy: Entropy, link: LinkMaker = connect
) -> AsyncIterator[Wallet]:
    """Open a wallet to use it, with the root of its secrets at hand; `link` makes its presences at brokers.

    Raises:
        HomeError: if this is no wallet's home.
        HomeInUse: if another process uses it.
    """
    async with open_store(home) as store:
        with locked(home):
            wallet = Wallet(store, root, link, clock, entropy)
            await wallet.start()
            yield wallet


@asynccontextmanager
async def open_wallet(home: Path, passphrase: str, clock: Clock, entropy: Entropy) -> AsyncIterator[Wallet]:
    """Open a wallet to use it.

    Raises:
        HomeError: if this is no wallet's home, or another process uses it.
        WrongPassphrase: if the passphrase does not open it.
    """
    async with open_unlocked(home, await unlock(home, passphrase), clock, entropy) as wallet:
        yield wallet
