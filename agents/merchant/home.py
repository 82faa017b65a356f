"""A merchant's home: settings, keys, catalogue and sales.

merchant.toml       settings
catalog.toml        what is sold: the shopkeeper's own file
goods/              files that buyers download
keys/identity       Ed25519 seed, 32 bytes: the key that the bank certifies
keys/envelope       X25519 and ML-KEM-768 private key: what orders are sealed for
keys/root           64 bytes, from which one-time keys derive
keys/web.toml       keys of the web pages' office, API and webhooks (`WebKeys`)
sales.db            sales, deposits, refunds, payouts, web orders, webhooks, stored answers
"""

import base64
from collections.abc import Mapping
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
from ..admission import AdmissionSettings
from ..home import HomeError, load_settings, make, read_toml, save_settings, write_secret
from ..invitation import write_invitation
from ..world import Entropy
from .urls import is_private, is_site

_SUITE: Final = Suite.MLKEM768_X25519
MAX_BANKS: Final = 16
"""As many as a catalogue has room for certificates."""

MAX_GOODS: Final = 2000
_MAX_DESCRIPTION: Final = 500
_MAX_FILE_NAME: Final = 120
_MAX_FILE_NAME_BYTES: Final = 255  # of a name on disk (NAME_MAX); what is longer, no file system even looks for
_API_PREFIX: Final = "sk_"
_WEBHOOK_PREFIX: Final = "whsec_"
DOWNLOAD: Final = "Download it from the page of your order."

SAMPLE_CATALOG: Final = """\
# What this merchant sells. `price` is an amount with its currency; `goods`, if given, goes to the buyer with the
# receipt; `file`, if given, is the name of a file in the folder `goods`, which the buyer downloads from the page of
# the order; `description`, if given, stands in the shop's page. The running merchant reads this file when it starts.

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


class Settings(AdmissionSettings, frozen=True, forbid_unknown_fields=True):
    """What `merchant.toml` holds. `presence` ends the client id at the broker; nobody should guess it.

    `banks` are the addresses of the banks where the merchant has accounts; all of them meet it at its one broker.
    `public_url` is where buyers find the shop's pages; `webhook` is where its own system wants to be told of web
    orders.

    Raises:
        ValueError: with a sentence, if one of the two is no such URL; as `AdmissionSettings`.
    """

    name: str
    banks: list[str]
    broker: str
    presence: str
    offer_minutes: float = 15
    deposit_minutes: int = 30
    forget_lapsed_days: int = 30
    public_url: str = ""
    webhook: str = ""

    def __post_init__(self) -> None:
        """Refuse URLs that nobody could open, and webhooks that everybody could read."""
        super().__post_init__()
        if self.public_url and not is_site(self.public_url):
            raise ValueError("public_url: it looks like https://shop.example, with nothing after it")
        if self.webhook and not is_private(self.webhook):
            raise ValueError("webhook: it looks like https://shop.example/ecash; http:// only to localhost")

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
    file: str = ""
    description: str = ""


class Stocked(NamedTuple):
    """What is sold under one sku: the item as the catalogue announces it, and what goes to the buyer."""

    item: Item
    goods: str = ""
    file: str = ""
    description: str = ""

    @property
    def text(self) -> str:
        """What the receipt says of the goods."""
        return self.goods or (DOWNLOAD if self.file else "")


class Stock(dict[str, Stocked]):
    """The catalogue: what is sold, by sku, and the folder of the files that buyers download."""

    def __init__(self, items: Mapping[str, Stocked] | None = None, folder: Path | None = None) -> None:
        super().__init__(items or {})
        self.folder = folder

    def has_file(self, name: str) -> bool:
        """Tell whether buyers can download a file of this name."""
        return self.folder is not None and is_goods_file(self.folder, name)


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


class WebKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the pages are opened with.

    `office` is what the shopkeeper types (128 bits, written like an invitation), `api` what the shop's own system
    shows (256 bits), `webhook` what it checks our webhooks with (256 bits, in the form of the Standard Webhooks
    specification).
    """

    office: str
    api: str
    webhook: str

    def __repr__(self) -> str:
        return "WebKeys()"


def create(home: Path, settings: Settings, entropy: Entropy) -> MerchantKeys:
    """Make a merchant's home with new keys and a sample catalogue.

    Raises:
        HomeError: if the home is not empty.
    """
    make(home)
    write_secret(home / "keys/identity", entropy.bytes(32))
    write_secret(home / "keys/envelope", entropy.bytes(PRIVATE_BYTES[_SUITE]))
    write_secret(home / "keys/root", entropy.bytes(64))
    goods_folder(home).mkdir(mode=0o700)
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


def catalog_of(home: Path) -> Stock:
    """Read the catalogue.

    Raises:
        HomeError: with file and reason, if something in it is wrong.
    """
    path = home / "catalog.toml"
    try:
        articles = read_toml(path, _CatalogFile).item
        folder = goods_folder(home)
        catalog = Stock({article.sku: _stocked(article, folder) for article in articles}, folder)
    except (OSError, msgspec.MsgspecError, MoneyError, PeerError) as error:
        raise HomeError(f"{path}: {error}") from error
    if len(catalog) != len(articles):
        raise HomeError(f"{path}: two items have the same sku")
    return catalog


def _stocked(article: Article, folder: Path) -> Stocked:
    price = parse_amount(article.price)
    if len(article.goods) > MAX_GOODS:
        raise MoneyError(f"the goods of {article.sku} are longer than 2,000 characters")
    if len(article.description) > _MAX_DESCRIPTION:
        raise MoneyError(f"the description of {article.sku} is longer than 500 characters")
    if article.file and not is_goods_file(folder, article.file):
        raise MoneyError(f"the file of {article.sku} is no file in {folder}: put it there, and write its name alone")
    item = msgspec.convert([check_name(article.sku), article.title, price.value, price.currency], Item)
    return Stocked(item, article.goods, article.file, article.description)


def goods_folder(home: Path) -> Path:
    """Return the folder of the files that buyers download."""
    return home / "goods"


def is_goods_file(folder: Path, name: str) -> bool:
    """Tell whether this is the plain name of a file in the folder; one that begins with a dot is hidden, and none."""
    plain = 0 < len(name) <= _MAX_FILE_NAME and name.isprintable() and not name.startswith(".")
    short = plain and len(name.encode()) <= _MAX_FILE_NAME_BYTES
    return short and not {"/", "\\"} & set(name) and (folder / name).is_file()


def web_keys(home: Path, entropy: Entropy) -> WebKeys:
    """Return the keys; make them at the first use.

    Raises:
        HomeError: if the file is not what was written.
    """
    path = home / "keys" / "web.toml"
    try:
        return read_toml(path, WebKeys)
    except FileNotFoundError:
        return new_web_keys(home, entropy)


def new_web_keys(home: Path, entropy: Entropy) -> WebKeys:
    """Make new keys, in place of those that somebody else may have seen."""
    keys = WebKeys(
        write_invitation(entropy.bytes(16)),
        f"{_API_PREFIX}{entropy.bytes(32).hex()}",
        f"{_WEBHOOK_PREFIX}{base64.b64encode(entropy.bytes(32)).decode()}",
    )
    save_settings(home / "keys", "web", keys)
    return keys


def webhook_secret(key: str) -> bytes:
    """Return the bytes (32) that webhooks are signed with."""
    return base64.b64decode(key.removeprefix(_WEBHOOK_PREFIX))
