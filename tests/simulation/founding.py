"""Banks that are founded once for each process and copied for each world: their keys are the same everywhere."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, NamedTuple

import agents.bank.home
from agents.address import BankAddress
from agents.bank import home as bank_home
from agents.bank.signer import SoftwareSigner
from broker.address import BrokerUrl

from .clock import VirtualClock
from .entropy import SeededEntropy
from .quick import quickly

START: Final = 1_700_000_000_000
BROKER: Final = BrokerUrl.parse("mqtt://127.0.0.1:1883")
CURRENCIES: Final = {"north": "USD", "south": "EUR"}
_VALUES: Final = 4
_LINES: Final = Path(__file__).with_name("keys.txt").read_text().splitlines()
KEYS: Final = [base64.b64decode(line) for line in _LINES]
_TARIFFS: Final[dict[str, dict[str, Any]]] = {
    "free": {},
    "dear": {
        "withdrawal_commission": "10%",
        "deposit_commission": "10%",
        "refund_commission": "10%",
        "redemption_commission": "5%",
        "payout_commission": "1",
    },
}
_EPOCHS: Final[dict[str, dict[str, Any]]] = {
    "long": {"mint_days": 36_500, "spend_days": 36_600, "redeem_days": 36_700},
    "short": {"mint_days": 30, "spend_days": 60, "redeem_days": 90},
}


class Founded(NamedTuple):
    """A bank that was founded: its home, its settings, its first announcement and its address."""

    home: Path
    settings: bank_home.Settings
    keys: bank_home.BankKeys
    announcement: bytes
    address: BankAddress
    signer: SoftwareSigner


@contextmanager
def keys_from(first: int) -> Iterator[None]:
    """Let banks take their RSA keys from the list, from this one on, instead of making new ones."""
    home: Any = agents.bank.home
    usual, keys = home.generate_rsa_key, iter(KEYS[first:])
    home.generate_rsa_key = lambda: next(keys)
    try:
        yield
    finally:
        home.generate_rsa_key = usual


@cache
def found(name: str, tariff: str, epochs: str) -> Founded:
    """Found a bank, once."""
    home = Path(mkdtemp(prefix=f"ecash-simulated-{name}-"))
    settings = bank_home.Settings(
        name,
        CURRENCIES[name],
        str(BROKER),
        f"presence-of-{name}",
        largest_denomination=_VALUES - 1,
        max_coins=24,
        **_TARIFFS[tariff],
        **_EPOCHS[epochs],
    )
    with ExitStack() as stack:
        quickly(stack)
        stack.enter_context(keys_from(list(CURRENCIES).index(name) * _VALUES))
        keyset = bank_home.create(home, settings, VirtualClock(START), SeededEntropy(name))
        keys = bank_home.keys_of(home)
        announcement = bank_home.sign_keyset(keys.identity, keyset)
        address = BankAddress(name, BROKER, bank_home.address_of(settings, keys.identity).fingerprint)
        return Founded(home, settings, keys, announcement, address, SoftwareSigner(keys.denominations, threads=1))


def first_free_key() -> int:
    """Return the place of the first key in the list that no founded bank has."""
    return len(CURRENCIES) * _VALUES


def copy_home(founded: Founded, target: Path) -> None:
    """Give a world its own copy of a bank's home."""
    shutil.copytree(founded.home, target)
