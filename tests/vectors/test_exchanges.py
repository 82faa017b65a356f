"""Exchange, refund, recovery, proof, tokens and payment links, verified by the text of docs/protocol.md alone."""

import base64
from typing import Any, Final

import msgpack
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey, VerifyKey

from tests.vectors.reader import (
    VECTORS,
    derive,
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

EXCHANGE: Final = VECTORS["exchange"]
TICKET: Final = VECTORS["ticket"]
REDEMPTION: Final = VECTORS["redemption"]
DENOMINATION: Final = raw(VECTORS["denomination"]["id"])
IDENTITY: Final = raw(VECTORS["keyset"]["identity"])
TARIFF: Final = VECTORS["keyset"]["fields"]["tariff"]


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def bodies(kind: str) -> list[dict[str, Any]]:
    """The messages of a type among those of recovery and refund."""
    said = (*VECTORS["recovery"]["bodies"], *VECTORS["refund"], *VECTORS["payout"])
    return [one["fields"] for one in said if one["type"] == kind]


@pytest.mark.parametrize("one", [EXCHANGE, TICKET], ids=["exchange", "ticket"])
def test_an_exchange_is_numbered_from_the_seed(one: dict[str, Any]) -> None:
    counters = one["generation"].to_bytes(4, "big") + one["number"].to_bytes(8, "big")
    assert derive("exchange id", [IDENTITY, counters], 16) == raw(one["request_id"])


@pytest.mark.parametrize(
    ("one", "asked", "answer"),
    [
        (EXCHANGE, EXCHANGE["request"]["fields"]["outputs"], EXCHANGE["answer"]),
        (TICKET, TICKET["fields"]["outputs"], TICKET["answer"]),
    ],
    ids=["exchange", "ticket"],
)
def test_what_is_asked_for_and_what_comes_of_it_derive_from_the_seed(
    one: dict[str, Any], asked: list[dict[str, str]], answer: dict[str, Any]
) -> None:
    made = [mint(raw(one["request_id"]), index) for index in range(len(asked))]
    assert wire(asked) == [[DENOMINATION, coin["blinded"]] for coin in made]
    assert wire(answer["fields"]["coins"]) == [[DENOMINATION, coin["blind_signature"]] for coin in made]
    assert [raw(coin) for coin in one["coins"]] == [coin["coin"] for coin in made]


def assert_spent(coins: list[dict[str, Any]], request: bytes, digest: bytes) -> None:
    """These are the coins of a request, and each has signed the digest."""
    for index, spent in enumerate(coins):
        coin = mint(request, index)
        signature = SigningKey(coin["seed"]).sign(signed_bytes("spend", DENOMINATION, digest)).signature
        assert pack(*wire(spent["coin"])) == coin["coin"]
        assert raw(spent["spend"][2:]) == signature


def test_coins_are_exchanged_for_exactly_these() -> None:
    asked = EXCHANGE["request"]["fields"]
    outputs = b"".join(pack(*wire(one)) for one in asked["outputs"])
    commission = asked["commission"].to_bytes(8, "big")
    digest = sha256(b"ecash/v1 exchange\0", framed(b"north", raw(EXCHANGE["request_id"]), commission, outputs))
    assert digest == raw(EXCHANGE["digest"])
    assert_spent(asked["coins"], raw(VECTORS["withdrawal"]["request_id"]), digest)
    assert (asked["commission"], len(asked["coins"])) == (0, len(asked["outputs"]))
    assert TARIFF["exchange"] == {"flat": 0, "rate_ppm": 0, "minimum": 0, "maximum": 0}


def test_coins_are_redeemed_into_one_account() -> None:
    account = raw(VECTORS["wallet"]["account_key"])
    request, asked = raw(REDEMPTION["request_id"]), REDEMPTION["request"]["fields"]
    digest = sha256(b"ecash/v1 redeem\0", (5).to_bytes(2, "big"), b"north", request, account)
    assert digest == raw(REDEMPTION["digest"])
    assert_spent(asked["coins"], raw(EXCHANGE["request_id"]), digest)
    assert REDEMPTION["answer"]["fields"] == {"amount": 1000, "commission": asked["commission"]}


def test_the_answer_to_a_ticket_travels_by_way_of_the_merchant() -> None:
    [letter] = [one for one in VECTORS["envelopes"] if one["kind"] == "ticket"]
    assert raw(letter["letter"]["fields"]["body"][2:]) == raw(TICKET["encoded"])
    assert letter["letter"]["fields"]["request_id"] == f"0x{TICKET['request_id']}"
    envelope = f"0x{letter['envelope']}"
    assert [one["ticket"] for one in bodies("RefundRequest")] == ["0x", envelope]
    assert [one["ticket"] for one in bodies("RefundOrder")] == [envelope]

    [answer] = [one for one in VECTORS["answers"] if one["request_id"] == TICKET["request_id"]]
    assert answer["request_hash"] == letter["request_hash"]
    assert answer["answer"]["fields"]["body"] == f"0x{TICKET['answer']['encoded']}"
    sealed = f"0x{answer['sealed']}"
    assert [one["issue"] for one in bodies("RefundAnswer")] == ["0x", sealed]
    assert [one["issue"] for one in bodies("RefundOrderAnswer")] == [sealed]
    assert {one["amount"] for kind in ("RefundAnswer", "RefundOrder") for one in bodies(kind)} == {500}


def test_an_answer_is_given_once_more_as_it_was() -> None:
    first = VECTORS["answers"][0]
    stored = {
        "request_id": f"0x{first['request_id']}",
        "request_hash": f"0x{first['request_hash']}",
        "answer": f"0x{first['sealed']}",
    }
    assert [one["withdrawals"] for one in bodies("RecoverAnswer")] == [[stored]]
    assert [one["found"] for one in bodies("FetchAnswer")] == [[stored], []]


def test_a_spending_is_found_and_read_by_the_serial_number() -> None:
    one = VECTORS["recovery"]["spending"]
    coin = raw(one["denomination"]) + raw(one["serial"])
    tag, key = sha256(b"ecash/v1 spending tag\0", coin)[:16], sha256(b"ecash/v1 spending key\0", coin)
    sealed = seal_secret(key, tag, raw(one["encoded"]))
    assert wire(one["sealed"]["fields"]) == [tag, sealed]
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], tag) == pad(raw(one["encoded"]))
    digest, spend = wire(one["fields"])
    assert digest == raw(VECTORS["payment"]["info"]["digest"])
    VerifyKey(raw(one["serial"])).verify(signed_bytes("spend", raw(one["denomination"]), digest), spend)

    [told] = bodies("CheckAnswer")
    assert told["spendings"] == [one["sealed"]["fields"]]
    assert all(one["serial"].startswith(asked["prefix"]) for asked in bodies("CheckRequest"))


def test_a_payment_is_proven_to_who_knows_its_code() -> None:
    asked, answer = (VECTORS["proof"][name]["fields"] for name in ("request", "answer"))
    info = VECTORS["payment"]["info"]["fields"]
    digest = payer_digest(info["payer_function"], raw(asked["salt"][2:]), raw(asked["payment_id"][2:]), asked["code"])
    assert (f"0x{digest.hex()}", asked["payment_id"]) == (info["payer_digest"], info["payment_id"])

    [statement] = [one for one in VECTORS["statements"] if one["name"] == "proof of payment"]
    assert answer["proof"] == f"0x{statement['signed']}"
    assert statement["fields"]["info"] == f"0x{VECTORS['payment']['info']['encoded']}"
    verdict, signature = msgpack.unpackb(raw(statement["fields"]["verdict"][2:]))
    VerifyKey(IDENTITY).verify(signed_bytes("verdict", verdict), signature)
    [accepting] = [one for one in VECTORS["statements"] if one["name"] == "accepting verdict"]
    assert (verdict, accepting["fields"]["refusal"]) == (raw(accepting["encoded"]), "")


def test_totals_are_those_of_the_keyset() -> None:
    [statement] = [one for one in VECTORS["statements"] if one["name"] == "totals"]
    told = statement["fields"]
    assert told["keyset"] == f"0x{VECTORS['keyset']['hash']}"
    assert [one["denomination"] for one in told["denominations"]] == [f"0x{VECTORS['denomination']['id']}"]
    assert all(one["spent"] <= one["minted"] for one in told["denominations"])


@pytest.mark.parametrize(
    ("one", "scheme"),
    [(VECTORS["token"], "ECASH:"), (VECTORS["token"]["request"], "ECASHREQ:")],
    ids=["coins", "asked"],
)
def test_a_token_and_its_request_are_written_in_base32(one: dict[str, Any], scheme: str) -> None:
    assert one["text"] == scheme + base64.b32encode(raw(one["encoded"])).decode().rstrip("=")
    assert one["fields"]["fingerprint"] == f"0x{VECTORS['keyset']['fingerprint']}"


def test_a_token_holds_coins_with_their_keys() -> None:
    token = VECTORS["token"]
    for index, told in enumerate(wire(token["fields"]["coins"])):
        coin = mint(raw(EXCHANGE["request_id"]), index)
        assert told == [DENOMINATION[:8], coin["signature"], coin["seed"]]
    assert sha256(b"ecash/v1 token\0", raw(token["encoded"])) == raw(token["hash"])


def test_an_acknowledgement_is_bound_to_its_token() -> None:
    told = VECTORS["token"]["acknowledgement"]
    header = b"\x01" + raw(told["request_id"])
    context = header + raw(VECTORS["token"]["hash"])
    assert raw(told["sealed"]) == header + seal_secret(raw(told["answer_key"]), context, raw(told["encoded"]))


def test_a_payment_link_holds_the_merchants_signed_payment_request() -> None:
    link, [asked] = VECTORS["payment_link"], [one for one in VECTORS["statements"] if one["name"] == "payment request"]
    told = link["fields"]
    payreq = pack(raw(asked["encoded"]), raw(asked["signature"]))
    assert told["payreq"] == f"0x{payreq.hex()}"
    assert told["fingerprint"] == f"0x{VECTORS['keyset']['fingerprint']}"
    assert link["encoded"] == pack(*wire(told)).hex()
    assert link["text"] == "web+ecash:pay/" + base64.b32encode(raw(link["encoded"])).decode().rstrip("=").lower()
