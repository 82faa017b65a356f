"""What must be refused, and with which code."""

from typing import Any, Final

import msgpack
import msgspec

from protocol.answer import Answer, seal_answer
from protocol.coins import SpentCoin
from protocol.envelope import Letter, _SignedLetter, seal
from protocol.keyset import SignedKeyset
from protocol.refusals import Refusal
from protocol.signatures import Domain, sign
from tests.vectors.story import NOW, Story, seed

_ORDER_LINES: Final = (
    ('the canonical encoding of ["map", 2]', "92a36d617002", ""),
    ("an integer in a longer form", "92a36d6170cc02", Refusal.MALFORMED),
    ("a text in a longer form", "92d9036d617002", Refusal.MALFORMED),
    ("an array in a longer form", "dc0002a36d617002", Refusal.MALFORMED),
    ("one element too many", "93a36d617002c0", Refusal.MALFORMED),
    ("one element too few", "91a36d6170", Refusal.MALFORMED),
    ("a byte behind the message", "92a36d61700200", Refusal.MALFORMED),
    ("cut short", "92a36d6170", Refusal.MALFORMED),
    ("a map instead of an array", "82a3736b75a36d6170a87175616e7469747902", Refusal.MALFORMED),
    ("a float", "92a36d6170cb4000000000000000", Refusal.MALFORMED),
    ("bytes instead of a text", "92c4036d617002", Refusal.MALFORMED),
    ("a boolean instead of an integer", "92a36d6170c3", Refusal.MALFORMED),
    ("nil", "92a36d6170c0", Refusal.MALFORMED),
    ("an extension type", "92a36d6170d40102", Refusal.MALFORMED),
    ("a negative integer", "92a36d6170ff", Refusal.MALFORMED),
    ("an integer below its bound", "92a36d617000", Refusal.MALFORMED),
    ("an integer above its bound", "92a36d6170cd2711", Refusal.MALFORMED),
    ("a text that does not match its pattern", "92a34d617002", Refusal.MALFORMED),
    ("a text with a line feed at its end", "92a46d61700a02", Refusal.MALFORMED),
    ("a text that is not UTF-8", "92a36dff7002", Refusal.MALFORMED),
    ("nothing", "", Refusal.MALFORMED),
)


def cases(story: Story, envelope: bytes) -> dict[str, Any]:
    """All of them; `envelope` is a letter of kind `withdraw` for suite 1."""
    return {
        "messages": _messages(),
        "blinded_values": _blinded(story),
        "coins": _coins(story),
        "envelopes": _envelopes(story, envelope),
        "answers": _answers(story),
        "keysets": _keysets(story),
    }


def _messages() -> list[dict[str, Any]]:
    lines = [
        {"what": what, "message": "OrderLine", "bytes": data, "refusal": refusal}
        for what, data, refusal in _ORDER_LINES
    ]
    too_many = msgpack.packb(["north", [["map", 1]] * 51])
    nothing = msgpack.packb(["north", []])
    return [
        *lines,
        {"what": "51 elements", "message": "OrderRequest", "bytes": too_many, "refusal": Refusal.MALFORMED},
        {"what": "no elements", "message": "OrderRequest", "bytes": nothing, "refusal": Refusal.MALFORMED},
    ]


def _blinded(story: Story) -> list[dict[str, Any]]:
    n = story.rsa.n
    wrong = (("0", 0), ("1", 1), ("n - 1", n - 1), ("n", n), ("p, a factor of n", story.p))
    values = [
        {"what": what, "value": value.to_bytes(256), "refusal": Refusal.BAD_BLINDED_VALUE} for what, value in wrong
    ]
    return [
        {"what": "good", "value": story.blinded_coin(0)[0], "refusal": ""},
        *values,
        {"what": "255 bytes", "value": story.blinded_coin(0)[0][1:], "refusal": Refusal.BAD_BLINDED_VALUE},
    ]


def _coins(story: Story) -> list[dict[str, Any]]:
    n = story.rsa.n
    spent = next(one for one in story.spent if int.from_bytes(one.coin.signature) + n < 1 << 2048)
    flipped = msgspec.structs.replace(spent.coin, serial=seed("another serial"))
    larger = (int.from_bytes(spent.coin.signature) + n).to_bytes(256)
    other = msgspec.structs.replace(spent.coin, signature=larger)
    digest = story.info.digest
    rows = [
        ("good", spent, digest, ""),
        ("another serial number", SpentCoin(flipped, spent.spend), digest, Refusal.BAD_COIN),
        ("a signature with n added", SpentCoin(other, spent.spend), digest, Refusal.BAD_COIN),
        ("spent on another payment", spent, seed("digest of another payment"), Refusal.BAD_SPEND_SIGNATURE),
    ]
    return [{"what": what, "spent": one.encode(), "digest": on, "refusal": code} for what, one, on, code in rows]


def _envelopes(story: Story, envelope: bytes) -> list[dict[str, Any]]:
    flipped = envelope[:-1] + bytes([envelope[-1] ^ 1])
    rows = [
        ("good", envelope, "withdraw", ""),
        ("opened as another kind", envelope, "deposit", Refusal.MALFORMED),
        ("version 2", b"\x02" + envelope[1:], "withdraw", Refusal.UNKNOWN_VERSION),
        ("suite 3", envelope[:1] + b"\x03" + envelope[2:], "withdraw", Refusal.UNKNOWN_VERSION),
        ("another recipient", envelope[:2] + bytes(16) + envelope[18:], "withdraw", Refusal.MALFORMED),
        ("a bit flipped", flipped, "withdraw", Refusal.MALFORMED),
        ("the header alone", envelope[:18], "withdraw", Refusal.MALFORMED),
    ]
    return [{"what": what, "envelope": data, "kind": kind, "refusal": code} for what, data, kind, code in rows]


def letters(story: Story) -> list[tuple[bytes, bytes, Refusal]]:
    """Letter and signature that are refused once they are opened as `withdraw` letters to suite 1.

    They are sealed anew each time, so they do not stand in the file.
    """
    sender = story.account_seed
    letter = Letter("withdraw", bytes(16), NOW, bytes(32), b"", b"")
    named = msgspec.structs.replace(letter, sender=seed("nobody's key"))
    other = msgspec.structs.replace(letter, kind="deposit")
    signature = sign(sender, Domain.REQUEST, story.x25519.key_id, named.encode())
    return [
        (named.encode(), signature, Refusal.BAD_SIGNATURE),
        (letter.encode(), signature, Refusal.BAD_SIGNATURE),
        (other.encode(), b"", Refusal.WRONG_TYPE),
    ]


def seal_raw(story: Story, letter: bytes, signature: bytes) -> bytes:
    """Seal a letter that `seal_letter` would not."""
    return seal(story.x25519.public, "withdraw", _SignedLetter(letter, signature).encode())


def _answers(story: Story) -> list[dict[str, Any]]:
    key, hashed = bytes(range(32)), seed("request hash")
    answer = Answer(NOW, "", "", b"")
    sealed = seal_answer(story.identity_seed, key, bytes(16), hashed, answer)
    by_other = seal_answer(story.merchant_seed, key, bytes(16), hashed, answer)
    rows = [
        ("good", sealed, hashed, ""),
        ("to another request", sealed, seed("another request's hash"), Refusal.MALFORMED),
        ("under another request id", sealed[:1] + b"\x01" + sealed[2:], hashed, Refusal.MALFORMED),
        ("version 2", b"\x02" + sealed[1:], hashed, Refusal.UNKNOWN_VERSION),
        ("by another signer", by_other, hashed, Refusal.BAD_SIGNATURE),
    ]
    return [
        {
            "what": what,
            "sealed": data,
            "answer_key": key,
            "signer": story.identity,
            "request_hash": about,
            "refusal": code,
        }
        for what, data, about, code in rows
    ]


def _keysets(story: Story) -> list[dict[str, Any]]:
    replace = msgspec.structs.replace
    keyset, denomination = story.keyset, story.denomination
    backwards = replace(denomination, mint_until=denomination.mint_from)
    weak = replace(denomination, public_key=bytes.fromhex("3003020100"))
    rows = [
        ("good", keyset, ""),
        ("version 2", replace(keyset, version=2), Refusal.UNKNOWN_VERSION),
        ("of another bank", replace(keyset, bank="south"), Refusal.WRONG_BANK),
        ("of another identity", replace(keyset, identity=story.merchant_key), Refusal.WRONG_BANK),
        ("a chain that is too short", replace(keyset, chain=()), Refusal.MALFORMED),
        ("without an envelope key", replace(keyset, envelope_keys=()), Refusal.MALFORMED),
        ("revoked twice", replace(keyset, revoked=keyset.revoked * 2), Refusal.MALFORMED),
        ("a key twice", replace(keyset, denominations=(denomination, denomination)), Refusal.UNKNOWN_DENOMINATION),
        ("dates out of order", replace(keyset, denominations=(backwards,)), Refusal.UNKNOWN_DENOMINATION),
        ("no RSA key", replace(keyset, denominations=(weak,)), Refusal.UNKNOWN_DENOMINATION),
    ]
    signed = [(what, SignedKeyset.sign(story.identity_seed, one), code) for what, one, code in rows]
    forged = replace(signed[0][1], signature=bytes(64))
    signed.append(("a wrong signature", forged, Refusal.BAD_SIGNATURE))
    return [{"what": what, "signed": one.encode(), "refusal": code} for what, one, code in signed]
