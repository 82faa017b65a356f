"""The world of the vectors: one bank, one merchant, one wallet, one purchase; and how values are written in JSON."""

import hashlib
from functools import cached_property
from typing import Any, Final

import msgspec
from mnemonic import Mnemonic

from protocol.blind_rsa import PublicKey, blind, blinding_factor, finalize
from protocol.coins import SALT_BYTES, Coin, Evidence, SpentCoin, message_of, spend
from protocol.commission import Commission
from protocol.derivation import Root, new_request_id
from protocol.envelope import EnvelopePrivateKey, Suite
from protocol.keyset import Denomination, Keyset, Limits, Tariff
from protocol.messages import (
    Catalog,
    Certificate,
    Exhibits,
    Item,
    Parcel,
    PaymentInfo,
    Payreq,
    Signed,
    Verdict,
    commit_to_coins,
    order_digest,
    payer_digest,
)
from protocol.signatures import Domain, public_key, sign

NOW: Final = 1_800_000_000_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
WORDS: Final = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def seed(name: str, length: int = 32) -> bytes:
    """Bytes that are always the same for a name."""
    return hashlib.shake_256(f"ecash/v1 test vectors: {name}".encode()).digest(length)


def shown(message: msgspec.Struct, **more: Any) -> dict[str, Any]:
    """A message with its fields and its encoding."""
    name = type(message).__name__.lstrip("_")
    return {"type": name, "fields": _fields(message), "encoded": msgspec.msgpack.encode(message), **more}


def _fields(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return {name: _fields(getattr(value, name)) for name in value.__struct_fields__}
        case bytes():
            return f"0x{value.hex()}"
        case tuple():
            return [_fields(one) for one in value]
        case _:
            return value


def plain(value: Any) -> Any:
    """A value as it stands in JSON: bytes in hexadecimal."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value


class Story:
    """Keys and statements of everybody. The RSA key is that of the only denomination: coins of 5.00 USD."""

    bank: Final = "north"
    merchant: Final = "books"
    identity_seed: Final = seed("bank identity")
    merchant_seed: Final = seed("merchant")
    device: Final = seed("device", 16)
    answer_at: Final = NOW + 5_000

    def __init__(self, p: int, q: int) -> None:
        self.p, self.q = p, q
        self.d = pow(65537, -1, (p - 1) * (q - 1))
        self.rsa = PublicKey(p * q, 65537)
        self.bip39_seed = Mnemonic("english").to_seed(WORDS)
        self.root = Root(self.bip39_seed)
        self.identity, self.merchant_key = public_key(self.identity_seed), public_key(self.merchant_seed)
        self.x25519 = EnvelopePrivateKey(Suite.X25519, self.x25519_secret)
        self.hybrid = EnvelopePrivateKey(Suite.MLKEM768_X25519, self.hybrid_secret)
        self.shop_envelope = EnvelopePrivateKey(Suite.X25519, seed("merchant envelope"))

    x25519_secret: Final = seed("bank envelope, suite 1")
    hybrid_secret: Final = seed("bank envelope, suite 2", 96)

    def new_id(self, name: str) -> bytes:
        """A request id of the wallet."""
        return new_request_id(self.device, seed(name))

    @property
    def account_seed(self) -> bytes:
        """The key of the wallet's account."""
        return self.root.account(self.identity)

    @cached_property
    def denomination(self) -> Denomination:
        """Coins of 5.00 USD."""
        dates = NOW - DAY, NOW + 30 * DAY, NOW + 60 * DAY, NOW + 90 * DAY
        return Denomination("USD", 500, self.rsa.to_der(), *dates)

    @cached_property
    def keyset(self) -> Keyset:
        """The bank's second keyset."""
        return Keyset(
            version=1,
            bank=self.bank,
            number=1,
            chain=(seed("hash of keyset 0"),),
            issued_at=NOW - DAY,
            identity=self.identity,
            envelope_keys=(self.hybrid.public, self.x25519.public),
            denominations=(self.denomination,),
            tariff=Tariff(
                withdrawal=Commission(0, 5_000, 1, 0),
                deposit=Commission(2, 10_000, 0, 500),
                exchange=Commission(0, 0, 0, 0),
                refund=Commission(0, 5_000, 1, 0),
                redemption=Commission(0, 2_000, 0, 0),
                payout=Commission(25, 0, 0, 0),
            ),
            limits=Limits(100, 4),
            revoked=(seed("id of a revoked denomination"),),
        )

    @property
    def withdraw_id(self) -> bytes:
        """The id of the withdrawal."""
        return self.new_id("withdraw")

    def blinded_coin(self, index: int) -> tuple[bytes, int]:
        """Blinded message and inverse of a coin of the withdrawal."""
        message = message_of(self.denomination.id, public_key(self.root.coin(self.withdraw_id, index)))
        r = self.blinding_factor(index)
        return blind(self.rsa, message, salt=self.root.pss_salt(self.withdraw_id, index), r=r)

    def blinding_factor(self, index: int) -> int:
        """The factor r of a coin of the withdrawal."""
        return blinding_factor(
            self.rsa, lambda attempt, length: self.root.blinding(self.withdraw_id, index, attempt, length)
        )

    def blind_signature(self, index: int) -> bytes:
        """What the bank answers."""
        return pow(int.from_bytes(self.blinded_coin(index)[0]), self.d, self.rsa.n).to_bytes(256)

    def coin(self, index: int) -> Coin:
        """A coin of the withdrawal."""
        serial = public_key(self.root.coin(self.withdraw_id, index))
        message, inverse = message_of(self.denomination.id, serial), self.blinded_coin(index)[1]
        signature = finalize(self.rsa, message, self.blind_signature(index), inverse, salt_length=SALT_BYTES)
        return Coin(self.denomination.id, serial, signature)

    @cached_property
    def coins(self) -> tuple[Coin, ...]:
        """Two coins."""
        return self.coin(0), self.coin(1)

    @cached_property
    def certificate(self) -> Certificate:
        """The merchant's."""
        return Certificate(self.bank, 1002, "USD", self.merchant, "The bookshop", self.merchant_key, NOW - DAY)

    @cached_property
    def catalog(self) -> Catalog:
        """What the merchant sells."""
        signed = Signed.make(self.identity_seed, Domain.CERTIFICATE, self.certificate).encode()
        items = (Item("novel", "A novel", 800, "USD"), Item("map", "Map of Zürich", 200, "USD"))
        return Catalog(self.merchant, self.merchant_key, NOW - HOUR, self.shop_envelope.public, (signed,), items)

    @cached_property
    def payreq(self) -> Payreq:
        """The merchant's payment request."""
        return Payreq(
            currency="USD",
            amount=1000,
            timestamp=NOW,
            bank=self.bank,
            account=1002,
            order=("1 × A novel", "1 × Map of Zürich"),
            payment_id=seed("payment id", 16),
            salt=seed("order salt", 16),
            expires=NOW + HOUR,
            deposit_before=NOW + 2 * HOUR,
            keyset=self.keyset.hash,
        )

    @property
    def pay_id(self) -> bytes:
        """The id of the request to pay."""
        return self.new_id("pay")

    @cached_property
    def info(self) -> PaymentInfo:
        """The payment information."""
        asked = self.payreq
        code = self.root.payer_code(self.pay_id)
        return PaymentInfo(
            asked.currency,
            asked.amount,
            asked.timestamp,
            asked.bank,
            asked.account,
            "sha-256",
            order_digest(asked.salt, asked.order),
            "sha-256",
            payer_digest("sha-256", self.root.payer_salt(self.pay_id), asked.payment_id, code),
            asked.payment_id,
            commit_to_coins(self.evidence_key, self.coins),
            asked.deposit_before,
        )

    @cached_property
    def spent(self) -> tuple[SpentCoin, ...]:
        """The coins, spent on the payment, by serial number."""
        seeds = {coin.serial: self.root.coin(self.withdraw_id, index) for index, coin in enumerate(self.coins)}
        coins = sorted(self.coins, key=lambda coin: coin.serial)
        return tuple(spend(coin, seeds[coin.serial], self.info.digest) for coin in coins)

    @property
    def evidence_key(self) -> bytes:
        """The payer's key for evidence."""
        return self.root.evidence_key(self.pay_id)

    @cached_property
    def parcel(self) -> Parcel:
        """The coins for the bank."""
        return Parcel(self.info.digest, self.evidence_key, self.spent)

    @cached_property
    def exhibits(self) -> Exhibits:
        """Evidence that the first coin was spent on something else."""
        coin, digest = self.coins[0], seed("digest of another payment")
        proof = sign(self.root.coin(self.withdraw_id, 0), Domain.SPEND, coin.denomination, digest)
        return Exhibits((Evidence(coin.denomination, coin.serial, digest, proof),))

    def verdict(self, refusal: str = "", evidence: bytes = b"") -> Verdict:
        """The bank's verdict on the payment."""
        info = self.info
        about = info.bank, info.digest, info.payment_id, info.account, info.currency, info.amount
        return Verdict(*about, refusal, self.answer_at, evidence)
