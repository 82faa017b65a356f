"""A small world: one bank with four denominations, one merchant, one wallet. Only the RSA keys are random."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from protocol.bank.desk import Account
from protocol.blind_rsa import PublicKey
from protocol.coins import Coin, SpentCoin, spend
from protocol.commission import Commission
from protocol.derivation import Root
from protocol.envelope import EnvelopePrivateKey, Suite
from protocol.keyset import Denomination, KeyRing, Keyset, Limits, Tariff
from protocol.messages import (
    BlindedCoin,
    BlindSignature,
    Catalog,
    Certificate,
    Item,
    Parcel,
    PaymentInfo,
    Payreq,
    Signed,
    Verdict,
    WithdrawAnswer,
    WithdrawRequest,
    commit_to_coins,
)
from protocol.signatures import Domain, public_key
from protocol.wallet import withdrawal
from protocol.wallet.outputs import blind_outputs
from protocol.wallet.paying import Ids, Payer, Shop, payment_info

NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
BANK: Final = "north"
SHOP: Final = "books"
ACCOUNT: Final = 1001
VALUES: Final = (("USD", 100), ("USD", 200), ("USD", 500), ("EUR", 100))
TARIFF: Final = Tariff(
    withdrawal=Commission(0, 10_000, 0, 0),
    deposit=Commission(1, 0, 0, 0),
    exchange=Commission(100, 0, 0, 0),
    refund=Commission(3, 0, 0, 0),
    redemption=Commission(4, 0, 0, 0),
    payout=Commission(5, 0, 0, 0),
)
"""All different, so that no operation can take another's commission; that of an exchange can be paid in coins."""
GENERATION: Final = 2


def seed(name: str) -> bytes:
    """32 bytes that are always the same for a name."""
    return hashlib.sha256(name.encode()).digest()


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def rsa_public(name: str) -> PublicKey:
    numbers = rsa_key(name).public_key().public_numbers()
    return PublicKey(numbers.n, numbers.e)


def rsa_sign(name: str, blinded: bytes) -> bytes:
    """The private operation, by the Chinese remainder theorem."""
    key, value = rsa_key(name).private_numbers(), int.from_bytes(blinded)
    mod_p, mod_q = pow(value, key.dmp1, key.p), pow(value, key.dmq1, key.q)
    return (mod_q + key.q * (key.iqmp * (mod_p - mod_q) % key.p)).to_bytes(256)


def denomination(currency: str, value: int) -> Denomination:
    der = rsa_public(f"{currency} {value}").to_der()
    return Denomination(currency, value, der, NOW - DAY, NOW + DAY, NOW + 10 * DAY, NOW + 20 * DAY)


def altered(value: Any) -> Any:
    """Another valid value of the same type: what somebody on the way could write instead."""
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1]) if value else b"x"
    if isinstance(value, str):
        if value.startswith("sha-"):
            return "sha-384" if value == "sha-256" else "sha-256"
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
    if isinstance(value, int):
        return value + 1
    if isinstance(value, tuple):
        return (*value[:-1], altered(value[-1])) if value else (b"x",)
    if isinstance(value, msgspec.Struct):
        return alter(value, value.__struct_fields__[0])
    raise TypeError(type(value))


def alter(struct: Any, field: str, value: Any = None) -> Any:
    """The struct with one field changed."""
    changed = altered(getattr(struct, field)) if value is None else value
    return msgspec.structs.replace(struct, **{field: changed})


class Purse(NamedTuple):
    """Coins and the seeds of their keys, in one order."""

    coins: tuple[Coin, ...]
    seeds: tuple[bytes, ...]

    @property
    def pairs(self) -> tuple[tuple[Coin, bytes], ...]:
        return tuple(zip(self.coins, self.seeds, strict=True))

    def spend(self, digest: bytes) -> tuple[SpentCoin, ...]:
        return tuple(spend(coin, key, digest) for coin, key in self.pairs)


class World:
    """Everybody's keys, and the statements that everybody has signed."""

    def __init__(self) -> None:
        self.identity_seed, self.shop_seed, self.client_seed = seed("bank"), seed("shop"), seed("client")
        self.identity, self.shop_key = public_key(self.identity_seed), public_key(self.shop_seed)
        self.bank_envelope = EnvelopePrivateKey(Suite.X25519, seed("bank envelope"))
        self.shop_envelope = EnvelopePrivateKey(Suite.X25519, seed("shop envelope"))
        denominations = {pair: denomination(*pair) for pair in VALUES}
        self.ids = {pair: one.id for pair, one in denominations.items()}
        self._names = {one.id: f"{currency} {value}" for (currency, value), one in denominations.items()}
        self.keyset = Keyset(
            version=1,
            bank=BANK,
            number=0,
            chain=(),
            issued_at=NOW - DAY,
            identity=self.identity,
            envelope_keys=(self.bank_envelope.public,),
            denominations=tuple(denominations.values()),
            tariff=TARIFF,
            limits=Limits(10, 4),
            revoked=(),
        )
        self.ring = KeyRing(self.keyset)
        self.root = Root(bytes(64))
        self.certificate = Certificate(BANK, ACCOUNT, "USD", SHOP, "The bookshop", self.shop_key, NOW - DAY)
        self.signed_certificate = Signed.make(self.identity_seed, Domain.CERTIFICATE, self.certificate)
        self.catalog = Catalog(
            SHOP,
            self.shop_key,
            NOW - HOUR,
            self.shop_envelope.public,
            (self.signed_certificate.encode(),),
            (Item("novel", "A novel", 800, "USD"),),
        )
        self.shop = Shop(self.certificate, self.shop_envelope.public, self.catalog)
        self.payreq = Payreq(
            currency="USD",
            amount=800,
            timestamp=NOW,
            bank=BANK,
            account=ACCOUNT,
            order=("1 A novel 8.00 USD", "2 delivery"),
            payment_id=seed("payment")[:16],
            salt=seed("order salt")[:16],
            expires=NOW + HOUR,
            deposit_before=NOW + DAY,
            keyset=self.keyset.hash,
        )
        self.info = payment_info(self.payreq, PAYER, commit_to_coins(EVIDENCE_KEY, self.purse.coins))
        self.account = Account(ACCOUNT, "merchant", SHOP, "The bookshop", "USD", self.shop_key)
        self.client = Account(7, "client", "", "Alice", "USD", public_key(self.client_seed), GENERATION)

    def sign_blinded(self, coins: Iterable[BlindedCoin]) -> tuple[bytes, ...]:
        """What the bank's signer does."""
        return tuple(rsa_sign(self._names[coin.denomination], coin.blinded) for coin in coins)

    def issue(self, coins: Sequence[BlindedCoin]) -> tuple[BlindSignature, ...]:
        """What the bank's answer says of blinded coins."""
        return tuple(map(BlindSignature, (coin.denomination for coin in coins), self.sign_blinded(coins)))

    def blind(self, denominations: Sequence[bytes], request_id: bytes = bytes(16)) -> tuple[BlindedCoin, ...]:
        return blind_outputs(self.root, self.ring, request_id, denominations)

    def asking(self, denominations: Sequence[bytes], request_id: bytes = bytes(16)) -> WithdrawRequest:
        """The request for coins of these denominations."""
        state = self.requested(denominations, request_id)
        return WithdrawRequest(GENERATION, state.commission, self.blind(denominations, request_id), ())

    def requested(self, denominations: Sequence[bytes], request_id: bytes = bytes(16)) -> withdrawal.Requested:
        amount = sum(self.ring.denomination(one).value for one in denominations)
        commission = self.keyset.tariff.withdrawal.charge(amount)
        return withdrawal.Requested(BANK, request_id, b"sealed", tuple(denominations), amount, commission, 1)

    @cache  # noqa: B019  -- the world lives as long as the run
    def withdraw(self, *values: int, currency: str = "USD", request_id: bytes = bytes(16)) -> Purse:
        """Mint coins as wallet and bank do: blind, sign, unblind, verify."""
        denominations = [self.ids[currency, value] for value in values]
        state = self.requested(denominations, request_id)
        coins = self.issue(self.blind(denominations, request_id))
        answer = WithdrawAnswer(coins, state.amount, state.commission)
        event = withdrawal.unblind(self.root, self.ring, state, answer, b"sealed")
        assert isinstance(event, withdrawal.CoinsVerified)
        verified = tuple(coin for _, coin in event.coins)
        return Purse(verified, tuple(self.root.coin(request_id, index) for index in range(len(values))))

    @property
    def purse(self) -> Purse:
        """Coins worth what the payment request asks for."""
        return self.withdraw(100, 200, 500)

    def parcel(self, info: PaymentInfo | None = None, purse: Purse | None = None) -> Parcel:
        digest = (info or self.info).digest
        return Parcel(digest, EVIDENCE_KEY, (purse or self.purse).spend(digest))

    def verdict(self, refusal: str = "", evidence: bytes = b"", info: PaymentInfo | None = None) -> Verdict:
        about = info or self.info
        return Verdict(
            about.bank,
            about.digest,
            about.payment_id,
            about.account,
            about.currency,
            about.amount,
            refusal,
            NOW,
            evidence,
        )

    def sign_verdict(self, verdict: Verdict) -> Signed:
        return Signed.make(self.identity_seed, Domain.VERDICT, verdict)


EVIDENCE_KEY: Final = seed("evidence")
PAYER: Final = Payer("sha-256", seed("payer")[:16], "the payer's code")
IDS: Final = Ids(b"p" * 16, seed("pay answer"), b"i" * 16, seed("inquiry answer"), EVIDENCE_KEY)


@cache
def world() -> World:
    return World()
