"""A merchant's home: settings, keys, catalogue and sales.

merchant.toml       settings
catalog.toml        what is sold: the shopkeeper's own file
keys/identity       Ed25519 seed, 32 bytes: the key that the bank certifies
keys/envelope       X25519 and ML-KEM-768 private key: what orders are sealed for
keys/root           64 bytes, from which one-time keys derive
sales.db            sales, deposits, refunds, payouts, stored answers
"""

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from protocol.derivation import Root
from protocol.envelope import PRIVATE_BYTES, EnvelopePrivateKey, Suite
from protocol.errors import PeerError
from protocol.messages import Item
from protocol.money import MoneyError, parse_amount
from protocol.signatures import public_key
from protocol.topics import check_name

from ..address import BankAddress
from ..home import HomeError, load_settings, make, save_settings, write_secret
from ..world import Entropy

_SUITE: Final = Suite.MLKEM768_X25519
MAX_BANKS: Final = 16
"""As many as a catalogue has room for certificates."""

SAMPLE_CATALOG: Final = """\
# What this merchant sells. `price` is an amount with its currency; `goods`, if given, goes to the buyer with the
# receipt. The running merchant reads this file when it starts.

[[item]]
sku = "song"
title = "Bluesky, a song to download"
price = "12.34 USD"
goods = "https://shop.example/download/bluesky.flac"

[[item]]
sku = "coffee"
title = "A cup of coffee"
price = "2.50 USD"
goods = "Show this receipt at the counter."
"""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `merchant.toml` holds. `presence` ends the client id at the broker; nobody should guess it.

    `banks` are the addresses of the banks where the merchant has accounts; all of them meet it at its one broker.
    """

    name: str
    banks: list[str]
    broker: str
    presence: str
    offer_minutes: int = 15
    deposit_minutes: int = 30
    forget_lapsed_days: int = 30

    @property
    def addresses(self) -> dict[str, BankAddress]:
        """The banks by name.

        Raises:
            HomeError: with the reason, if there is none or too many, one is no address, two have one name, or they
                are not at one broker.
        """
        try:
            parsed = [BankAddress.parse(text) for text in self.banks]
        except (ValueError, PeerError) as error:
            raise HomeError(f"banks: {error}") from error
        by_name = {address.bank: address for address in parsed}
        if not 0 < len(by_name) == len(parsed) <= MAX_BANKS:
            raise HomeError(f"banks: name 1 to {MAX_BANKS} banks, each once")
        if len({address.broker for address in parsed}) > 1:
            raise HomeError("banks: they name several brokers, but a merchant meets all its banks at one")
        return by_name


class Article(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `catalog.toml`."""

    sku: str
    title: str
    price: str
    goods: str = ""


class _CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    item: list[Article]


class MerchantKeys(NamedTuple):
    """The secrets of a merchant."""

    identity: bytes
    envelope: EnvelopePrivateKey
    root: Root

    @property
    def public(self) -> bytes:
        """The key (32 bytes) that the bank certifies."""
        return public_key(self.identity)


def create(home: Path, settings: Settings, entropy: Entropy) -> MerchantKeys:
    """Make a merchant's home with new keys and a sample catalogue.

    Raises:
        HomeError: if the home is not empty.
    """
    make(home)
    write_secret(home / "keys/identity", entropy.bytes(32))
    write_secret(home / "keys/envelope", entropy.bytes(PRIVATE_BYTES[_SUITE]))
    write_secret(home / "keys/root", entropy.bytes(64))
    (home / "catalog.toml").write_text(SAMPLE_CATALOG)
    save_settings(home, "merchant", settings)
    return keys_of(home)


def settings_of(home: Path) -> Settings:
    """Read the settings.

    Raises:
        HomeError: if this is no merchant's home.
    """
    return load_settings(home, "merchant", Settings)


def keys_of(home: Path) -> MerchantKeys:
    """Load the merchant's keys."""
    envelope = EnvelopePrivateKey(_SUITE, (home / "keys/envelope").read_bytes())
    return MerchantKeys((home / "keys/identity").read_bytes(), envelope, Root((home / "keys/root").read_bytes()))


def catalog_of(home: Path) -> dict[str, tuple[Item, str]]:
    """Read the catalogue: by sku, the item and its goods.

    Raises:
        HomeError: with file and reason, if something in it is wrong.
    """
    path = home / "catalog.toml"
    try:
        articles = msgspec.toml.decode(path.read_bytes(), type=_CatalogFile).item
        catalog = {article.sku: (_item(article), article.goods) for article in articles}
    except (OSError, msgspec.MsgspecError, MoneyError, PeerError) as error:
        raise HomeError(f"{path}: {error}") from error
    if len(catalog) != len(articles):
        raise HomeError(f"{path}: two items have the same sku")
    return catalog


def _item(article: Article) -> Item:
    price = parse_amount(article.price)
    if len(article.goods) > 2000:
        raise MoneyError(f"the goods of {article.sku} are longer than 2,000 characters")
    return msgspec.convert([check_name(article.sku), article.title, price.value, price.currency], Item)
