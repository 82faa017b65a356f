"""Our code gives the vectors, and refuses what they say is to be refused."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from docs.generate import message_kinds, message_name
from protocol import messages
from protocol.answer import open_answer
from protocol.blind_rsa import check_blinded
from protocol.codec import Message
from protocol.coins import SpentCoin, check_coin, check_spend
from protocol.envelope import open_letter
from protocol.errors import PeerError
from protocol.keyset import open_keyset
from protocol.refusals import Refusal
from tests.vectors import generate, invalid
from tests.vectors.story import Story

RECORDED: Final = json.loads(generate.PATH.read_text("utf-8"))
INVALID: Final = RECORDED["invalid"]
STORY: Final = Story(int(RECORDED["rsa"]["p"], 16), int(RECORDED["rsa"]["q"], 16))


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def outcome(act: Callable[[], object]) -> str:
    """The refusal that an act ends in, or ""."""
    try:
        act()
    except PeerError as error:
        return error.refusal
    return ""


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["what"]) for case in cases]


def test_our_code_gives_the_vectors() -> None:
    built = generate.build(RECORDED, new_envelopes=False)
    assert generate.write(built) == generate.PATH.read_text("utf-8")


def test_every_message_occurs() -> None:
    text = generate.PATH.read_text("utf-8")
    inside = {"Item", "Limits", "EnvelopeKey", "BlindedCoin", "OrderLine", "Evidence", "Coin", "SpentCoin"}
    inside |= {"Tariff", "BlindSignature", "StoredAnswer", "PayoutStatus", "DenominationTotal", "TokenCoin"}
    signed = {"Signed", "SignedKeyset", "SignedLetter", "SignedAnswer"}
    for kind in message_kinds():
        name = message_name(kind)
        assert name in inside | signed or f'"type": "{name}"' in text, name


def test_envelopes_are_replaced_only_when_asked() -> None:
    fresh = generate.build(RECORDED, new_envelopes=True)
    for old, new in zip(RECORDED["envelopes"], fresh["envelopes"], strict=True):
        assert old["envelope"] != new["envelope"]
        assert old["key_id"] == new["key_id"]


def test_a_recorded_envelope_that_holds_something_else_is_found() -> None:
    first, second, *rest = RECORDED["envelopes"]
    swapped = [{**first, "envelope": RECORDED["invalid"]["envelopes"][0]["envelope"]}, second, *rest]
    generate.build({**RECORDED, "envelopes": swapped}, new_envelopes=False)
    other = generate.build(RECORDED, new_envelopes=True)["envelopes"][3]
    stale = [*RECORDED["envelopes"][:3], {**other, "name": "pay, anonymous"}]
    with pytest.raises(ValueError, match="new-envelopes"):
        generate.build({**RECORDED, "envelopes": stale}, new_envelopes=False)


@pytest.mark.parametrize("case", named(INVALID["messages"]))
def test_a_message_decodes_only_from_its_one_encoding(case: dict[str, Any]) -> None:
    kind: type[Message] = getattr(messages, case["message"])
    assert outcome(lambda: kind.decode(raw(case["bytes"]))) == case["refusal"]


@pytest.mark.parametrize("case", named(INVALID["blinded_values"]))
def test_a_blinded_value_is_checked(case: dict[str, Any]) -> None:
    assert outcome(lambda: check_blinded(STORY.rsa, raw(case["value"]))) == case["refusal"]


@pytest.mark.parametrize("case", named(INVALID["coins"]))
def test_a_spent_coin_is_checked(case: dict[str, Any]) -> None:
    def check() -> None:
        spent = SpentCoin.decode(raw(case["spent"]))
        check_coin(STORY.rsa, spent.coin)
        check_spend(spent, raw(case["digest"]))

    assert outcome(check) == case["refusal"]


@pytest.mark.parametrize("case", named(INVALID["envelopes"]))
def test_an_envelope_is_checked(case: dict[str, Any]) -> None:
    assert outcome(lambda: open_letter(STORY.x25519, raw(case["envelope"]), case["kind"])) == case["refusal"]


@pytest.mark.parametrize(("letter", "signature", "refusal"), invalid.letters(STORY))
def test_a_letter_is_checked(letter: bytes, signature: bytes, refusal: Refusal) -> None:
    envelope = invalid.seal_raw(STORY, letter, signature)
    assert outcome(lambda: open_letter(STORY.x25519, envelope, "withdraw")) == refusal


@pytest.mark.parametrize("case", named(INVALID["answers"]))
def test_an_answer_is_checked(case: dict[str, Any]) -> None:
    signer, key, hashed = raw(case["signer"]), raw(case["answer_key"]), raw(case["request_hash"])
    assert outcome(lambda: open_answer(signer, key, hashed, raw(case["sealed"]))) == case["refusal"]


@pytest.mark.parametrize("case", named(INVALID["keysets"]))
def test_a_keyset_is_checked(case: dict[str, Any]) -> None:
    fingerprint = RECORDED["keyset"]["fingerprint"]
    assert outcome(lambda: open_keyset("north", fingerprint, raw(case["signed"]))) == case["refusal"]
