"""A reader of the vectors, by the text of docs/protocol.md alone: nothing of `protocol` is used here."""

import hashlib
import hmac
import json
import math
from pathlib import Path
from typing import Any, Final

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey

VECTORS: Final = json.loads(Path(__file__).with_name("ecash-v1.json").read_text("utf-8"))
RSA: Final = {name: int(VECTORS["rsa"][name], 16) for name in ("n", "e", "d", "p", "q")}


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def wire(fields: Any) -> Any:
    """Fields as they stand in MessagePack: messages are arrays, `0x…` is bytes."""
    match fields:
        case dict():
            return [wire(value) for value in fields.values()]
        case list():
            return [wire(value) for value in fields]
        case str() if fields.startswith("0x"):
            return raw(fields[2:])
        case _:
            return fields


def pack(*values: Any) -> bytes:
    packed = msgpack.packb(list(values), use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def signed_bytes(domain: str, *parts: bytes) -> bytes:
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return b"ecash/v1 " + domain.encode() + b"\0" + framed


def pad(plaintext: bytes) -> bytes:
    size = 512
    while size < 4 + len(plaintext):
        size *= 2
    return len(plaintext).to_bytes(4, "big") + plaintext + bytes(size - 4 - len(plaintext))


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3) with SHA-256."""
    block, out = b"", b""
    for counter in range(1, length // 32 + 2):
        block = mac(key, block + info + bytes([counter]))
        out += block
    return out[:length]


def derive(name: str, parts: list[bytes], length: int) -> bytes:
    root = mac(b"ecash/v1 wallet", raw(VECTORS["wallet"]["bip39_seed"]))
    framed = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return expand(root, name.encode() + b"\0" + framed, length)


def mgf1(seed: bytes, length: int) -> bytes:
    return b"".join(hashlib.sha384(seed + i.to_bytes(4, "big")).digest() for i in range(length // 48 + 1))[:length]


def mint(request: bytes, index: int) -> dict[str, bytes]:
    """A coin of a request, blinded, signed and unblinded (§3.7), and all that comes between."""
    n, place = RSA["n"], index.to_bytes(4, "big")
    seed = derive("coin", [request, place], 32)
    serial = bytes(SigningKey(seed).verify_key)
    message = b"ecash/v1 coin\0" + raw(VECTORS["denomination"]["id"]) + serial
    salt = derive("pss salt", [request, place], 48)

    hashed = hashlib.sha384(bytes(8) + hashlib.sha384(message).digest() + salt).digest()
    block = bytes(256 - 48 - 48 - 2) + b"\x01" + salt
    masked = bytearray(x ^ y for x, y in zip(block, mgf1(hashed, len(block)), strict=True))
    masked[0] &= 0x7F
    encoded = bytes(masked) + hashed + b"\xbc"

    candidates = (derive("blinding", [request, place + i.to_bytes(4, "big")], 256) for i in range(128))
    r = next(r for data in candidates if (r := int.from_bytes(data)) < n and math.gcd(r, n) == 1)
    blinded = int.from_bytes(encoded) * pow(r, 65537, n) % n
    blind_signature = pow(blinded, RSA["d"], n)
    signature = (blind_signature * pow(r, -1, n) % n).to_bytes(256)
    return {
        "seed": seed,
        "serial": serial,
        "message": message,
        "pss_salt": salt,
        "encoded_message": encoded,
        "r": r.to_bytes(256),
        "inverse": pow(r, -1, n).to_bytes(256),
        "blinded": blinded.to_bytes(256),
        "blind_signature": blind_signature.to_bytes(256),
        "signature": signature,
        "coin": pack(raw(VECTORS["denomination"]["id"]), serial, signature),
    }


def seal_secret(key: bytes, context: bytes, plaintext: bytes) -> bytes:
    padded = pad(plaintext)
    nonce = mac(key, context + padded)[:12]
    return nonce + AESGCM(key).encrypt(nonce, padded, context)


def payer_digest(function: str, salt: bytes, payment_id: bytes, code: str) -> bytes:
    hashed = hashlib.new({"sha3-256": "sha3_256"}.get(function, function.replace("-", "")))
    hashed.update(b"ecash/v1 payer code\0" + function.encode() + b"\0" + salt + payment_id + code.encode())
    return hashed.digest()
