"""The vectors, verified by the text of docs/protocol.md alone: nothing of `protocol` is used here."""

import hashlib
import math
import unicodedata
from typing import Any, Final

import msgpack
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key
from nacl.signing import SigningKey, VerifyKey

from tests.vectors.reader import (
    RSA,
    VECTORS,
    derive,
    expand,
    mac,
    mint,
    pack,
    pad,
    payer_digest,
    raw,
    seal_secret,
    sha256,
    signed_bytes,
    wire,
)

WITHDRAWAL: Final = VECTORS["withdrawal"]
INFO: Final = VECTORS["payment"]["info"]


def every_message(value: Any) -> list[dict[str, Any]]:
    """All that stand with `fields` and `encoded`, wherever."""
    match value:
        case dict():
            inside = [one for part in value.values() for one in every_message(part)]
            return [value, *inside] if "fields" in value else inside
        case list():
            return [one for part in value for one in every_message(part)]
        case _:
            return []


def test_each_message_is_the_array_of_its_fields() -> None:
    messages = every_message(VECTORS)
    assert len({message["type"] for message in messages}) > 40
    for message in messages:
        assert pack(*wire(message["fields"])) == raw(message["encoded"]), message["type"]


def test_the_seed_follows_from_the_words_by_bip_39() -> None:
    wallet = VECTORS["wallet"]
    words = unicodedata.normalize("NFKD", wallet["mnemonic"]).encode()
    seed = hashlib.pbkdf2_hmac("sha512", words, b"mnemonic" + wallet["passphrase"].encode(), 2048)
    assert seed == raw(wallet["bip39_seed"])


def test_secrets_follow_from_the_seed() -> None:
    wallet = VECTORS["wallet"]
    for one in wallet["secrets"]:
        secret = raw(one["secret"])
        assert derive(one["name"], [raw(part) for part in one["parts"]], len(secret)) == secret, one["name"]
    secrets = {one["name"]: raw(one["secret"]) for one in wallet["secrets"]}
    code = secrets["payer code"].hex()
    assert wallet["payer_code"] == "-".join(code[i : i + 5] for i in range(0, 20, 5))
    assert bytes(SigningKey(secrets["account"]).verify_key) == raw(wallet["account_key"])


def test_a_request_id_hashes_device_and_random_bytes() -> None:
    one = VECTORS["request_id"]
    hashed = sha256(b"ecash/v1 request id\0", raw(one["device"]), raw(one["random"]))
    assert hashed[:16] == raw(one["request_id"])
    assert one["request_id"] == WITHDRAWAL["request_id"]


def test_the_rsa_key_is_one() -> None:
    assert RSA["p"] * RSA["q"] == RSA["n"]
    assert RSA["e"] * RSA["d"] % math.lcm(RSA["p"] - 1, RSA["q"] - 1) == 1
    loaded = load_der_public_key(raw(VECTORS["rsa"]["spki"]))
    assert isinstance(loaded, rsa.RSAPublicKey)
    assert loaded.public_numbers() == rsa.RSAPublicNumbers(RSA["e"], RSA["n"])


def test_denomination_and_keyset_are_named_by_their_hashes() -> None:
    denomination, keyset = VECTORS["denomination"], VECTORS["keyset"]
    assert sha256(b"ecash/v1 denomination\0", raw(denomination["encoded"])) == raw(denomination["id"])
    assert sha256(b"ecash/v1 keyset\0", raw(keyset["encoded"])) == raw(keyset["hash"])
    assert sha256(raw(keyset["identity"])).hex() == keyset["fingerprint"]
    assert keyset["fields"]["denominations"] == [denomination["fields"]]


def test_the_keyset_is_signed() -> None:
    keyset = VECTORS["keyset"]
    message, signature = signed_bytes("keyset", raw(keyset["encoded"])), raw(keyset["signature"])
    assert SigningKey(raw(keyset["identity_seed"])).sign(message).signature == signature
    VerifyKey(raw(keyset["identity"])).verify(message, signature)
    assert pack(raw(keyset["encoded"]), signature) == raw(keyset["signed"])


@pytest.mark.parametrize("coin", WITHDRAWAL["coins"])
def test_a_coin_is_blinded_signed_and_unblinded(coin: dict[str, Any]) -> None:
    made = mint(raw(WITHDRAWAL["request_id"]), coin["index"])
    assert {name: raw(coin[name]) for name in made} == made
    scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
    public = rsa.RSAPublicNumbers(65537, RSA["n"]).public_key()
    public.verify(made["signature"], made["message"], scheme, hashes.SHA384())


def test_the_withdrawal_asks_for_its_coins_in_order() -> None:
    denomination = VECTORS["denomination"]["id"]
    asked = [{"denomination": f"0x{denomination}", "blinded": f"0x{coin['blinded']}"} for coin in WITHDRAWAL["coins"]]
    assert WITHDRAWAL["request"]["fields"]["coins"] == asked
    signed = [
        {"denomination": f"0x{denomination}", "signature": f"0x{coin['blind_signature']}"}
        for coin in WITHDRAWAL["coins"]
    ]
    assert WITHDRAWAL["answer"]["fields"]["coins"] == signed


def test_an_order_is_committed_to_line_by_line() -> None:
    order = VECTORS["order"]
    hashed = []
    for one in order["lines"]:
        line_salt = mac(raw(order["salt"]), b"ecash/v1 order line\0" + one["index"].to_bytes(4, "big"))
        hashed.append(sha256(line_salt, one["line"].encode()))
        assert hashed[-1] == raw(one["hash"])
    assert sha256(b"ecash/v1 order\0", *hashed) == raw(order["digest"])
    assert INFO["fields"]["order_digest"] == f"0x{order['digest']}"


def test_a_payer_code_is_hashed_with_its_function() -> None:
    for one in VECTORS["payer"]:
        digest = payer_digest(one["function"], raw(one["salt"]), raw(one["payment_id"]), one["code"])
        assert digest == raw(one["digest"]), one["function"]
    request, payment_id = raw(VECTORS["payment"]["request_id"]), raw(VECTORS["payer"][0]["payment_id"])
    digest = payer_digest("sha-256", derive("payer salt", [request], 16), payment_id, VECTORS["wallet"]["payer_code"])
    assert INFO["fields"]["payer_digest"] == f"0x{digest.hex()}"


def test_a_payment_commits_to_its_coins() -> None:
    payment = VECTORS["payment"]
    for one in payment["commitments"]:
        coins = sorted(raw(coin) for coin in one["coins"])
        assert sha256(b"ecash/v1 parcel\0", raw(one["evidence_key"]), *coins) == raw(one["commitment"])
    evidence_key, paid = derive("evidence key", [raw(payment["request_id"])], 32), payment["commitments"][0]
    assert raw(paid["evidence_key"]) == evidence_key
    assert sorted(paid["coins"]) == sorted(coin["coin"] for coin in WITHDRAWAL["coins"])
    assert INFO["fields"]["parcel"] == f"0x{paid['commitment']}"
    parcel = payment["parcel"]["fields"]
    assert parcel["evidence_key"] == f"0x{evidence_key.hex()}"
    assert [pack(*wire(one["coin"])).hex() for one in parcel["coins"]] == sorted(paid["coins"])


def test_the_salt_of_the_offer_is_shown_to_the_merchant() -> None:
    [paid] = [one["fields"] for one in VECTORS["bodies"] if one["type"] == "PayRequest"]
    [asked] = [one["fields"] for one in VECTORS["statements"] if one["type"] == "Payreq"]
    assert paid["salt"] == asked["salt"] == f"0x{VECTORS['order']['salt']}"
    [letter] = [one["letter"] for one in VECTORS["envelopes"] if one["kind"] == "pay"]
    _, sealed, salt = msgpack.unpackb(raw(letter["fields"]["body"][2:]))
    assert f"0x{salt.hex()}" == asked["salt"]
    [parcel] = [one for one in VECTORS["envelopes"] if one["kind"] == "parcel"]
    assert sealed == raw(parcel["envelope"])


def test_coins_sign_the_payments_digest() -> None:
    digest = sha256(b"ecash/v1 payment\0", raw(INFO["encoded"]))
    assert digest == raw(INFO["digest"])
    seeds = {coin["serial"]: raw(coin["seed"]) for coin in WITHDRAWAL["coins"]}
    spent = VECTORS["payment"]["spent"]
    assert [one["serial"] for one in spent] == sorted(seeds)
    message = signed_bytes("spend", raw(VECTORS["denomination"]["id"]), digest)
    for one in spent:
        assert SigningKey(seeds[one["serial"]]).sign(message).signature == raw(one["spend"])
    coins = VECTORS["payment"]["parcel"]["fields"]["coins"]
    assert [coin["spend"] for coin in coins] == [f"0x{one['spend']}" for one in spent]


def test_a_coin_asks_for_the_verdict() -> None:
    asked = VECTORS["inquiry"]
    coin = WITHDRAWAL["coins"][asked["index"]]
    message = signed_bytes("inquiry", raw(INFO["digest"]), raw(asked["request_id"]))
    assert asked["fields"]["proof"] == f"0x{SigningKey(raw(coin['seed'])).sign(message).signature.hex()}"
    assert asked["fields"]["serial"] == f"0x{coin['serial']}"


@pytest.mark.parametrize("one", VECTORS["statements"], ids=lambda one: str(one["name"]))
def test_a_statement_is_signed(one: dict[str, Any]) -> None:
    key = SigningKey(raw(one["seed"]))
    signature = key.sign(signed_bytes(one["domain"], raw(one["encoded"]))).signature
    assert (bytes(key.verify_key), signature) == (raw(one["key"]), raw(one["signature"]))
    assert pack(raw(one["encoded"]), signature) == raw(one["signed"])


def labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return mac(salt, b"HPKE-v1" + suite + label + key)


def labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def shared_secret(one: dict[str, Any], sealed: bytes) -> tuple[bytes, bytes, bytes]:
    """Return KEM id, shared secret and ciphertext: DHKEM (RFC 9180, 4.1) or X-Wing."""
    private, public = raw(one["private"]), raw(one["public"])
    x25519 = X25519PrivateKey.from_private_bytes(private[-32:])
    if one["suite"] == 1:
        encapsulated = sealed[:32]
        secret = x25519.exchange(X25519PublicKey.from_public_bytes(encapsulated))
        extracted = labeled_extract(b"KEM\x00\x20", b"", b"eae_prk", secret)
        context = encapsulated + public
        return b"\x00\x20", labeled_expand(b"KEM\x00\x20", extracted, b"shared_secret", context, 32), sealed[32:]
    lattice, point = sealed[:1088], sealed[1088:1120]
    secrets = MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(lattice)
    secrets += x25519.exchange(X25519PublicKey.from_public_bytes(point))
    return b"\x64\x7a", hashlib.sha3_256(secrets + point + public[1184:] + rb"\.//^" + b"\\").digest(), sealed[1120:]


def open_hpke(one: dict[str, Any], info: bytes, sealed: bytes) -> bytes:
    """RFC 9180, 5.1, base mode with HKDF-SHA256 and AES-256-GCM; the first and only message."""
    kem, secret, ciphertext = shared_secret(one, sealed)
    suite = b"HPKE" + kem + b"\x00\x01\x00\x02"
    hashed = [labeled_extract(suite, b"", b"psk_id_hash", b""), labeled_extract(suite, b"", b"info_hash", info)]
    context = b"\0" + b"".join(hashed)
    extracted = labeled_extract(suite, secret, b"secret", b"")
    key = labeled_expand(suite, extracted, b"key", context, 32)
    nonce = labeled_expand(suite, extracted, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


@pytest.mark.parametrize("one", VECTORS["envelopes"], ids=lambda one: str(one["name"]))
def test_an_envelope_opens(one: dict[str, Any]) -> None:
    envelope, key_id = raw(one["envelope"]), raw(one["key_id"])
    assert sha256(bytes([one["suite"]]), raw(one["public"]))[:16] == key_id
    header = bytes([1, one["suite"]]) + key_id
    assert envelope[:18] == header
    info = b"ecash/v1 envelope\0" + header + one["kind"].encode()
    assert open_hpke(one, info, envelope[18:]) == pad(raw(one["plaintext"]))
    assert sha256(envelope) == raw(one["request_hash"])


@pytest.mark.parametrize(
    "one", [one for one in VECTORS["envelopes"] if "letter" in one], ids=lambda one: str(one["name"])
)
def test_a_letter_is_signed_for_its_recipient(one: dict[str, Any]) -> None:
    letter, signature = raw(one["letter"]["encoded"]), raw(one["signature"])
    assert pack(letter, signature) == raw(one["plaintext"])
    sender = raw(one["letter"]["fields"]["sender"][2:])
    if sender:
        VerifyKey(sender).verify(signed_bytes("request", raw(one["key_id"]), letter), signature)
    assert bool(sender) is bool(signature) is ("anonymous" not in one["name"])


def test_an_answer_is_signed_and_sealed() -> None:
    for one in VECTORS["answers"]:
        hashed, answer, signature = raw(one["request_hash"]), raw(one["answer"]["encoded"]), raw(one["signature"])
        VerifyKey(raw(one["signer"])).verify(signed_bytes("answer", hashed, answer), signature)
        assert raw(one["plaintext"]) == pack(answer, signature)
        header = b"\x01" + raw(one["request_id"])
        sealed = header + seal_secret(raw(one["answer_key"]), header + hashed, raw(one["plaintext"]))
        assert sealed == raw(one["sealed"])
        assert derive("answer key", [raw(one["request_id"])], 32) == raw(one["answer_key"])
        [envelope, *_] = [
            envelope for envelope in VECTORS["envelopes"] if envelope["request_hash"] == one["request_hash"]
        ]
        assert envelope["letter"]["fields"]["request_id"] == f"0x{one['request_id']}"


def test_evidence_is_sealed_for_the_payer() -> None:
    one = VECTORS["evidence"]
    request = raw(VECTORS["payment"]["request_id"])
    assert derive("evidence key", [request], 32) == raw(one["evidence_key"])
    assert seal_secret(raw(one["evidence_key"]), raw(one["digest"]), raw(one["encoded"])) == raw(one["sealed"])
    for exhibit in wire(one["fields"]["exhibits"]):
        denomination, serial, digest, spend = exhibit
        VerifyKey(serial).verify(signed_bytes("spend", denomination, digest), spend)
        assert digest != raw(one["digest"])


def test_lanes_follow_from_the_request_id() -> None:
    for one in VECTORS["lanes"]:
        first = int.from_bytes(sha256(b"ecash/v1 lane\0", raw(one["request_id"]))[:8], "big")
        assert (first + one["attempt"]) % one["lanes"] == one["lane"]


def test_plaintexts_are_padded_to_their_class() -> None:
    for one in VECTORS["padding"]:
        padded = pad(b"\xaa" * one["plaintext_bytes"])
        assert (len(padded), sha256(padded)) == (one["padded_bytes"], raw(one["sha256_of_padded"]))


def test_a_commission_is_rounded_to_the_nearest_unit() -> None:
    for policy in VECTORS["commission"]:
        terms = policy["fields"]
        for one in policy["charges"]:
            amount = one["amount"]
            share = (amount * terms["rate_ppm"] + 500_000) // 1_000_000
            charge = max(terms["flat"] + share, terms["minimum"])
            charge = min(charge, terms["maximum"]) if terms["maximum"] else charge
            assert one["commission"] == (charge if amount else 0)


def test_an_invitation_is_written_in_base32() -> None:
    import base64

    one = VECTORS["invitation"]
    text = base64.b32encode(raw(one["secret"])).decode().rstrip("=").lower()
    assert one["text"] == "-".join(text[i : i + 4] for i in range(0, len(text), 4))
    assert sha256(b"ecash/v1 invitation\0", raw(one["secret"])) == raw(one["hash"])
