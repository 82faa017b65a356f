"""A bank's home: settings, keys and books.

bank.toml                         settings
keys/identity                     Ed25519 seed, 32 bytes: who the bank is
keys/envelope/<key id>            suite (1 byte) and private key: what requests are sealed for
keys/denomination/<id>            RSA private key, PKCS #8 in DER: what coins are signed with
books.db                          accounts, ledger, spent coins, stored answers, keysets
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from broker.address import BrokerUrl
from protocol.commission import parse_commission
from protocol.envelope import PRIVATE_BYTES, EnvelopePrivateKey, Suite
from protocol.keyset import VERSION, Denomination, Keyset, Limits, SignedKeyset, Tariff, fingerprint
from protocol.signatures import public_key

from ..address import BankAddress
from ..admission import AdmissionSettings
from ..home import load_settings, make, save_settings, write_secret
from ..trace import point
from ..world import Clock, Entropy
from .signer import generate_rsa_key, public_key_of

DAY_MS: Final = 86_400_000
DEFAULT_LARGEST: Final = 14


class Settings(AdmissionSettings, frozen=True, forbid_unknown_fields=True):
    """What `bank.toml` holds. `presence` ends the bank's client id at the broker; nobody should guess it.

    `broker` is how the bank itself gets there, with its log-in. Customers are told `public_broker`, if that is another
    listener.

    The `ach_…` are what the operator has agreed with the bank that sends payouts (`ach.Originator`), or empty.
    """

    name: str
    currency: str
    broker: str
    presence: str
    withdrawal_commission: str = "0"
    deposit_commission: str = "0"
    exchange_commission: str = "0"
    refund_commission: str = "0"
    redemption_commission: str = "0"
    payout_commission: str = "0"
    largest_denomination: int = DEFAULT_LARGEST
    max_coins: int = 100
    lanes: int = 4
    mint_days: int = 365
    spend_days: int = 730
    redeem_days: int = 1095
    ach_destination: str = ""
    ach_destination_name: str = ""
    ach_origin: str = ""
    ach_company_name: str = ""
    ach_company_id: str = ""
    ach_odfi: str = ""
    public_broker: str = ""

    @property
    def customers_broker(self) -> BrokerUrl:
        """Where everybody reaches the bank, without a log-in."""
        return BrokerUrl.parse(self.public_broker or self.broker).anonymous


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
    tariff, limits = tariff_of(settings), limits_of(settings)
    make(home)
    identity = entropy.bytes(32)
    write_secret(home / "keys/identity", identity)
    envelope = new_envelope_key(home, entropy)
    denominations = new_denominations(home, settings, clock.now())
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
        tariff=tariff,
        limits=limits,
        revoked=(),
    )


def tariff_of(settings: Settings) -> Tariff:
    """Return the commissions that the settings name.

    Raises:
        ValueError: if one is no commission, or would eat up the smallest coin.
    """
    tariff = Tariff(
        *(
            parse_commission(text, settings.currency)
            for text in (
                settings.withdrawal_commission,
                settings.deposit_commission,
                settings.exchange_commission,
                settings.refund_commission,
                settings.redemption_commission,
                settings.payout_commission,
            )
        )
    )
    for taken_from_it in (tariff.deposit, tariff.exchange, tariff.redemption):
        taken_from_it.check_smallest(1)
    return tariff


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings name.

    Raises:
        ValueError: if they, or the days that a denomination lives, make no sense.
    """
    if not 0 < settings.mint_days <= settings.spend_days <= settings.redeem_days:
        raise ValueError("mint, spend and redeem days must not decrease")
    try:
        return msgspec.convert([settings.max_coins, settings.lanes], Limits)
    except msgspec.ValidationError as error:
        raise ValueError(f"max_coins is 1 to 200, lanes 1 to 256: {error}") from error


def new_envelope_key(home: Path, entropy: Entropy) -> EnvelopePrivateKey:
    """Make a key that requests are sealed for, and keep it in the home."""
    suite = Suite.MLKEM768_X25519
    secret = entropy.bytes(PRIVATE_BYTES[suite])
    key = EnvelopePrivateKey(suite, secret)
    write_secret(home / "keys/envelope" / key.key_id.hex(), bytes([suite]) + secret)
    return key


def new_denominations(
    home: Path, settings: Settings, mint_from: int, values: Collection[int] = ()
) -> Iterable[Denomination]:
    """Make denomination keys of one epoch, for all values of the bank or some, and keep each in the home at once."""
    for value in values or [1 << exponent for exponent in range(settings.largest_denomination + 1)]:
        private = generate_rsa_key()
        denomination = Denomination(
            currency=settings.currency,
            value=value,
            public_key=public_key_of(private).to_der(),
            mint_from=mint_from,
            mint_until=mint_from + settings.mint_days * DAY_MS,
            spend_until=mint_from + settings.spend_days * DAY_MS,
            redeem_until=mint_from + settings.redeem_days * DAY_MS,
        )
        write_secret(home / "keys/denomination" / denomination.id.hex(), private)
        point("bank.key.written")
        yield denomination


def settings_of(home: Path) -> Settings:
    """Read the settings.

    Raises:
        HomeError: if this is no bank's home.
    """
    return load_settings(home, "bank", Settings)


def keys_of(home: Path) -> BankKeys:
    """Load all private keys of a bank.

    Raises:
        OSError: if one cannot be read, perhaps because it was deleted at this moment.
    """
    envelopes = {key: EnvelopePrivateKey(Suite(data[0]), data[1:]) for key, data in _secrets_in(home / "keys/envelope")}
    denominations = dict(_secrets_in(home / "keys/denomination"))
    return BankKeys((home / "keys/identity").read_bytes(), envelopes, denominations)


def _secrets_in(folder: Path) -> Iterable[tuple[bytes, bytes]]:
    """Yield id and content of each file; drafts (see `write_secret`) are none yet."""
    return ((bytes.fromhex(path.name), path.read_bytes()) for path in folder.iterdir() if not path.suffix)


def address_of(settings: Settings, identity_seed: bytes) -> BankAddress:
    """Return the address that the bank gives to its customers."""
    return BankAddress(settings.name, settings.customers_broker, fingerprint(public_key(identity_seed)))


def sign_keyset(identity_seed: bytes, keyset: Keyset) -> bytes:
    """Return the announcement of a keyset."""
    return SignedKeyset.sign(identity_seed, keyset).encode()
