"""A bank's home: settings, keys and books.

bank.toml                         settings
keys/identity                     Ed25519 seed, 32 bytes: who the bank is
keys/envelope/<key id>            suite (1 byte) and private key: what requests are sealed for
keys/denomination/<id>            RSA private key, PKCS #8 in DER: what coins are signed with
books.db                          accounts, ledger, spent coins, stored answers, keysets
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from broker.address import BrokerUrl
from protocol.commission import parse_commission
from protocol.envelope import PRIVATE_BYTES, EnvelopePrivateKey, Suite
from protocol.keyset import VERSION, Denomination, Keyset, Limits, SignedKeyset, fingerprint
from protocol.signatures import public_key

from ..address import BankAddress
from ..home import load_settings, make, save_settings, write_secret
from ..world import Clock, Entropy
from .signer import generate_rsa_key, public_key_of

DAY_MS: Final = 86_400_000
DEFAULT_LARGEST: Final = 14


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `bank.toml` holds. `presence` ends the bank's client id at the broker; nobody should guess it."""

    name: str
    currency: str
    broker: str
    presence: str
    withdrawal_commission: str = "0"
    deposit_commission: str = "0"
    largest_denomination: int = DEFAULT_LARGEST
    max_coins: int = 100
    lanes: int = 4
    mint_days: int = 365
    spend_days: int = 730
    redeem_days: int = 1095


class BankKeys(msgspec.Struct, frozen=True):
    """The private keys of a bank, by what they are for."""

    identity: bytes
    envelopes: dict[bytes, EnvelopePrivateKey]
    denominations: dict[bytes, bytes]


def create(home: Path, settings: Settings, clock: Clock, entropy: Entropy) -> Keyset:
    """Make a bank: its home, its keys and its first keyset, which the caller enters in the books.

    Raises:
        HomeError: if the home is not empty.
        ValueError: if a setting makes no sense; nothing was written.
    """
    withdrawal = parse_commission(settings.withdrawal_commission, settings.currency)
    deposit = parse_commission(settings.deposit_commission, settings.currency)
    deposit.check_smallest(1)
    if not 0 < settings.mint_days <= settings.spend_days <= settings.redeem_days:
        raise ValueError("mint, spend and redeem days must not decrease")
    limits = msgspec.convert([settings.max_coins, settings.lanes], Limits)
    make(home)
    identity = entropy.bytes(32)
    write_secret(home / "keys/identity", identity)
    envelope = _new_envelope_key(home, entropy)
    denominations = _new_denominations(home, settings, clock.now())
    save_settings(home, "bank", settings)
    return Keyset(
        version=VERSION,
        bank=settings.name,
        number=0,
        chain=(),
        issued_at=clock.now(),
        identity=public_key(identity),
        envelope_keys=(envelope.public,),
        denominations=tuple(denominations),
        withdrawal_commission=withdrawal,
        deposit_commission=deposit,
        limits=limits,
    )


def _new_envelope_key(home: Path, entropy: Entropy) -> EnvelopePrivateKey:
    suite = Suite.MLKEM768_X25519
    secret = entropy.bytes(PRIVATE_BYTES[suite])
    key = EnvelopePrivateKey(suite, secret)
    write_secret(home / "keys/envelope" / key.key_id.hex(), bytes([suite]) + secret)
    return key


def _new_denominations(home: Path, settings: Settings, now: int) -> Iterable[Denomination]:
    for exponent in range(settings.largest_denomination + 1):
        private = generate_rsa_key()
        denomination = Denomination(
            currency=settings.currency,
            value=1 << exponent,
            public_key=public_key_of(private).to_der(),
            mint_from=now,
            mint_until=now + settings.mint_days * DAY_MS,
            spend_until=now + settings.spend_days * DAY_MS,
            redeem_until=now + settings.redeem_days * DAY_MS,
        )
        write_secret(home / "keys/denomination" / denomination.id.hex(), private)
        yield denomination


def settings_of(home: Path) -> Settings:
    """Read the settings.

    Raises:
        HomeError: if this is no bank's home.
    """
    return load_settings(home, "bank", Settings)


def keys_of(home: Path) -> BankKeys:
    """Load all private keys of a bank."""
    envelopes = {}
    for path in (home / "keys/envelope").iterdir():
        data = path.read_bytes()
        envelopes[bytes.fromhex(path.name)] = EnvelopePrivateKey(Suite(data[0]), data[1:])
    denominations = {bytes.fromhex(path.name): path.read_bytes() for path in (home / "keys/denomination").iterdir()}
    return BankKeys((home / "keys/identity").read_bytes(), envelopes, denominations)


def address_of(settings: Settings, identity_seed: bytes) -> BankAddress:
    """Return the address that the bank gives to its customers."""
    broker = BrokerUrl.parse(settings.broker)
    return BankAddress(settings.name, broker, fingerprint(public_key(identity_seed)))


def sign_keyset(identity_seed: bytes, keyset: Keyset) -> bytes:
    """Return the announcement of a keyset."""
    return SignedKeyset.sign(identity_seed, keyset).encode()
