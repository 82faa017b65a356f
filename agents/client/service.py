"""The wallet's file opened for one command: locked, unlocked, and its open exchanges at hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.address import BrokerUrl
from broker.mqtt import MqttLink

from ..home import HomeError, locked, make
from ..world import Clock, Entropy
from .seed import SealedSeed, open_seed, root_of, seal_seed, words_of
from .store import WalletStore
from .wallet import Wallet

_FILE = "wallet.db"


async def create(home: Path, passphrase: str, seed: bytes, entropy: Entropy, *, hard: bool = True) -> str:
    """Make a wallet for a seed of 16 bytes and return the words that its owner must write down.

    Raises:
        HomeError: if the home is not empty.
    """
    make(home)
    sealed = seal_seed(seed, passphrase, entropy.bytes(16), entropy.bytes(24), hard=hard)
    async with WalletStore(home / _FILE) as store:
        await store.set_meta("device", entropy.bytes(16))
        await store.set_meta("seed", sealed.encode())
    return words_of(seed)


@asynccontextmanager
async def open_store(home: Path) -> AsyncIterator[WalletStore]:
    """Open the wallet's file, to look at it only; that takes no passphrase.

    Raises:
        HomeError: if this is no wallet's home.
    """
    if not (home / _FILE).exists():
        raise HomeError(f"{home} holds no wallet: run `ecash wallet init --home {home}` first")
    async with WalletStore(home / _FILE) as store:
        if await store.meta("seed") is None:
            raise HomeError(f"the wallet in {home} was never finished: remove the folder and init again")
        yield store


@asynccontextmanager
async def open_wallet(home: Path, passphrase: str, clock: Clock, entropy: Entropy) -> AsyncIterator[Wallet]:
    """Open a wallet to use it.

    Raises:
        HomeError: if this is no wallet's home, or another process uses it.
        WrongPassphrase: if the passphrase does not open it.
    """
    async with open_store(home) as store:
        with locked(home):
            sealed = SealedSeed.decode(await store.meta("seed") or b"")
            root = root_of(open_seed(sealed, passphrase))
            wallet = Wallet(store, root, _link, clock, entropy)
            await wallet.start()
            yield wallet


def _link(broker: BrokerUrl, client_id: str) -> MqttLink:
    return MqttLink(broker, client_id, persistent=False)
