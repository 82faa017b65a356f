"""The vectors, part by part."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from agents.invitation import hash_invitation, write_invitation
from protocol.answer import Answer, Pause, _SignedAnswer, refuse, seal_answer, seal_secret
from protocol.blind_rsa import emsa_pss_encode
from protocol.coins import Coin, message_of
from protocol.commission import Commission
from protocol.envelope import (
    EnvelopePrivateKey,
    Letter,
    _SignedLetter,
    pad,
    request_hash,
    seal,
)
from protocol.errors import PeerError
from protocol.keyset import SignedKeyset, fingerprint
from protocol.messages import (
    HASH_FUNCTIONS,
    AccountAnswer,
    AccountRequest,
    BlindedCoin,
    BlindSignature,
    DepositAnswer,
    DepositRequest,
    InquiryAnswer,
    InquiryRequest,
    OrderLine,
    OrderRequest,
    PayAnswer,
    PayRequest,
    Receipt,
    Signed,
    Status,
    WithdrawAnswer,
    WithdrawRequest,
    commit_to_coins,
    order_digest,
    order_line_hash,
    payer_digest,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign
from protocol.topics import lane_of
from tests.vectors import exchanges
from tests.vectors.story import DAY, HOUR, NOW, WORDS, Story, seed, shown

_COMMISSIONS: Final = (
    (Commission(0, 0, 0, 0), (0, 1, 1000)),
    (Commission(0, 10_000, 0, 0), (0, 1, 49, 50, 149, 150, 12_345)),
    (Commission(2, 5_000, 0, 0), (0, 1, 99, 100, 299, 300, 2**53 - 1)),
    (Commission(0, 10_000, 5, 500), (0, 1, 549, 550, 49_949, 49_950, 60_000)),
    (Commission(0, 1, 0, 0), (499_999, 500_000, 1_499_999, 1_500_000)),
    (Commission(7, 1_000_000, 0, 0), (1, 9)),
)
_PADDED: Final = (0, 1, 507, 508, 509, 1020, 1021, 65_532, 65_533)


def rsa_key(story: Story) -> dict[str, Any]:
    n, d = f"{story.rsa.n:x}", f"{story.d:x}"
    numbers = {"n": n, "e": "10001", "d": d, "p": f"{story.p:x}", "q": f"{story.q:x}"}
    return {"warning": "public test key", **numbers, "spki": story.rsa.to_der()}


def wallet(story: Story) -> dict[str, Any]:
    root, request = story.root, story.withdraw_id
    index = (1).to_bytes(4, "big")
    secrets: list[tuple[str, list[bytes], bytes]] = [
        ("account", [story.identity], root.account(story.identity)),
        ("coin", [request, index], root.coin(request, 1)),
        ("pss salt", [request, index], root.pss_salt(request, 1)),
        ("blinding", [request, index + bytes(4)], root.blinding(request, 1, 0, 256)),
        ("answer key", [request], root.answer_key(request)),
        ("evidence key", [story.pay_id], root.evidence_key(story.pay_id)),
        ("payer salt", [story.pay_id], root.payer_salt(story.pay_id)),
        ("payer code", [story.pay_id], bytes.fromhex(root.payer_code(story.pay_id).replace("-", ""))),
    ]
    return {
        "mnemonic": WORDS,
        "passphrase": "",
        "bip39_seed": story.bip39_seed,
        "secrets": [{"name": name, "parts": parts, "secret": secret} for name, parts, secret in secrets],
        "payer_code": root.payer_code(story.pay_id),
        "account_key": public_key(story.account_seed),
    }


def request_id(story: Story) -> dict[str, Any]:
    return {"device": story.device, "random": seed("withdraw"), "request_id": story.withdraw_id}


def invitation() -> dict[str, Any]:
    secret = seed("invitation", 16)
    return {"secret": secret, "text": write_invitation(secret), "hash": hash_invitation(secret)}


def denomination(story: Story) -> dict[str, Any]:
    return shown(story.denomination, id=story.denomination.id)


def keyset(story: Story) -> dict[str, Any]:
    signed = SignedKeyset.sign(story.identity_seed, story.keyset)
    return {
        "identity_seed": story.identity_seed,
        "identity": story.identity,
        "fingerprint": fingerprint(story.identity),
        **shown(story.keyset, hash=story.keyset.hash),
        "signature": signed.signature,
        "signed": signed.encode(),
    }


def withdrawal(story: Story) -> dict[str, Any]:
    coins = []
    for index, coin in enumerate(story.coins):
        blinded, inverse = story.blinded_coin(index)
        message, salt = message_of(coin.denomination, coin.serial), story.root.pss_salt(story.withdraw_id, index)
        encoded = emsa_pss_encode(message, 2047, salt)
        coins.append(
            {
                "index": index,
                "seed": story.root.coin(story.withdraw_id, index),
                "serial": coin.serial,
                "message": message,
                "pss_salt": salt,
                "encoded_message": encoded,
                "r": story.blinding_factor(index).to_bytes(256),
                "inverse": inverse.to_bytes(256),
                "blinded": blinded,
                "blind_signature": story.blind_signature(index),
                "signature": coin.signature,
                "coin": coin.encode(),
            }
        )
    return {
        "request_id": story.withdraw_id,
        "coins": coins,
        "request": shown(_withdraw_request(story)),
        "answer": shown(_withdraw_answer(story)),
    }


def _withdraw_request(story: Story) -> WithdrawRequest:
    commission = story.keyset.tariff.withdrawal.charge(1000)
    coins = tuple(BlindedCoin(story.denomination.id, story.blinded_coin(i)[0]) for i in (0, 1))
    return WithdrawRequest(1, commission, coins, (story.new_id("an earlier withdrawal"),))


def _withdraw_answer(story: Story) -> WithdrawAnswer:
    commission = story.keyset.tariff.withdrawal.charge(1000)
    coins = tuple(BlindSignature(story.denomination.id, story.blind_signature(i)) for i in (0, 1))
    return WithdrawAnswer(coins, 1000, commission)


def order(story: Story) -> dict[str, Any]:
    salt, lines = story.payreq.salt, story.payreq.order
    hashes = [{"index": i, "line": line, "hash": order_line_hash(salt, i, line)} for i, line in enumerate(lines)]
    return {"salt": salt, "lines": hashes, "digest": order_digest(salt, lines)}


def payer(story: Story) -> list[dict[str, Any]]:
    salt, payment_id, code = story.root.payer_salt(story.pay_id), story.payreq.payment_id, "Bluesky"
    return [
        {
            "function": function,
            "salt": salt,
            "payment_id": payment_id,
            "code": code,
            "digest": payer_digest(function, salt, payment_id, code),
        }
        for function in HASH_FUNCTIONS
    ]


def payment(story: Story) -> dict[str, Any]:
    spent = [{"serial": one.coin.serial, "spend": one.spend} for one in story.spent]
    info = shown(story.info, digest=story.info.digest)
    return {
        "request_id": story.pay_id,
        "commitments": commitments(story),
        "info": info,
        "spent": spent,
        "parcel": shown(story.parcel),
    }


def commitments(story: Story) -> list[dict[str, Any]]:
    """To the coins of the payment, and to coins whose order by encoding is not that of their serial numbers."""
    low = Coin(seed("a denomination"), bytes(32), seed("a signature", 256))
    high = Coin(bytes(32), seed("a serial number"), seed("another signature", 256))
    return [
        {
            "evidence_key": story.evidence_key,
            "coins": [coin.encode() for coin in coins],
            "commitment": commit_to_coins(story.evidence_key, coins),
        }
        for coins in (story.coins, (low, high), (high,))
    ]


def inquiry(story: Story) -> dict[str, Any]:
    request = story.new_id("inquiry")
    coin = story.spent[0].coin
    index = story.coins.index(coin)
    proof = sign(story.root.coin(story.withdraw_id, index), Domain.INQUIRY, story.info.digest, request)
    body = InquiryRequest(story.info.encode(), coin.denomination, coin.serial, proof)
    return {"request_id": request, "index": index, **shown(body)}


def evidence(story: Story) -> dict[str, Any]:
    sealed = seal_secret(story.evidence_key, story.info.digest, story.exhibits.encode())
    return {"evidence_key": story.evidence_key, "digest": story.info.digest, **shown(story.exhibits), "sealed": sealed}


def statements(story: Story) -> list[dict[str, Any]]:
    bank, shop = story.identity_seed, story.merchant_seed
    sealed = seal_secret(story.evidence_key, story.info.digest, story.exhibits.encode())
    made = [
        ("certificate", bank, Domain.CERTIFICATE, story.certificate),
        ("catalogue", shop, Domain.CATALOG, story.catalog),
        ("payment request", shop, Domain.PAYREQ, story.payreq),
        ("accepting verdict", bank, Domain.VERDICT, story.verdict()),
        ("refusing verdict", bank, Domain.VERDICT, story.verdict(Refusal.ALREADY_SPENT.value, sealed)),
        ("receipt", shop, Domain.RECEIPT, _receipt(story)),
        ("proof of payment", bank, Domain.PROOF, exchanges.payment_proof(story)),
        ("totals", bank, Domain.TOTALS, exchanges.totals(story)),
    ]
    return [
        {
            "name": name,
            "domain": domain.value,
            "seed": key,
            "key": public_key(key),
            **shown(statement),
            "signature": Signed.make(key, domain, statement).signature,
            "signed": Signed.make(key, domain, statement).encode(),
        }
        for name, key, domain, statement in made
    ]


def bodies(story: Story, parcel: bytes) -> list[dict[str, Any]]:
    """What else is said in requests and answers; `parcel` is the envelope of the payment's parcel."""
    certificate = Signed.make(story.identity_seed, Domain.CERTIFICATE, story.certificate)
    verdict = Signed.make(story.identity_seed, Domain.VERDICT, story.verdict()).encode()
    receipt = Signed.make(story.merchant_seed, Domain.RECEIPT, _receipt(story)).encode()
    info, commission = story.info.encode(), story.keyset.tariff.deposit.charge(story.info.amount)
    said = [
        AccountRequest(seed("invitation", 16), 0),
        AccountAnswer(1001, "client", "Alice", "USD", 0, b"", 1),
        AccountRequest(b"", 2),
        AccountAnswer(1002, "merchant", "The bookshop", "USD", 2**53 - 1, certificate.encode(), 2),
        OrderRequest(story.bank, (OrderLine("novel", 1), OrderLine("map", 1))),
        PayRequest(info, parcel, story.payreq.salt),
        PayAnswer(receipt, b""),
        DepositRequest(info, parcel),
        DepositAnswer(verdict, commission),
        InquiryAnswer(verdict),
        Status(open=True, lanes=4),
        Pause(1_500),
    ]
    return [shown(message) for message in said]


def _receipt(story: Story) -> Receipt:
    accepted = Signed.make(story.identity_seed, Domain.VERDICT, story.verdict())
    return Receipt(story.info.digest, accepted.encode(), "Read it in good health.", story.answer_at + 1_000)


def envelopes(story: Story, recorded: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The envelopes; those that are recorded are checked and kept.

    Raises:
        ValueError: a recorded one holds something else.
    """
    x25519, hybrid = (story.x25519, story.x25519_secret), (story.hybrid, story.hybrid_secret)
    shop = story.shop_envelope, seed("merchant envelope")
    body, account = _withdraw_request(story).encode(), story.account_seed
    request = story.withdraw_id
    ask = Letter("withdraw", request, NOW + DAY, story.root.answer_key(request), public_key(account), body)
    parcel = _sealed("parcel, suite 2", hybrid, "parcel", story.parcel.encode(), recorded)
    paying = PayRequest(story.info.encode(), parcel["envelope"], story.payreq.salt).encode()
    pay = Letter("pay", story.pay_id, NOW + 2 * HOUR, story.root.answer_key(story.pay_id), b"", paying)
    return [
        _letter("withdraw, suite 1", x25519, ask, account, recorded),
        _letter("withdraw, suite 2", hybrid, ask, account, recorded),
        parcel,
        _letter("pay, anonymous", shop, pay, None, recorded),
        _letter("ticket, anonymous", x25519, exchanges.ticket_letter(story), None, recorded),
    ]


def _letter(
    name: str,
    key: tuple[EnvelopePrivateKey, bytes],
    letter: Letter,
    sender: bytes | None,
    recorded: Mapping[str, bytes],
) -> dict[str, Any]:
    encoded = letter.encode()
    signature = b"" if sender is None else sign(sender, Domain.REQUEST, key[0].key_id, encoded)
    sealed = _sealed(name, key, letter.kind, _SignedLetter(encoded, signature).encode(), recorded)
    return {**sealed, "letter": shown(letter), "signature": signature}


def _sealed(
    name: str,
    key: tuple[EnvelopePrivateKey, bytes],
    kind: str,
    plaintext: bytes,
    recorded: Mapping[str, bytes],
) -> dict[str, Any]:
    private, secret = key
    envelope = recorded.get(name) or seal(private.public, kind, plaintext)
    if private.open(envelope, kind) != plaintext:
        raise ValueError(f"the recorded envelope {name!r} is out of date: run with --new-envelopes")
    return {
        "name": name,
        "suite": int(private.suite),
        "private": secret,
        "public": private.public.public,
        "key_id": private.key_id,
        "kind": kind,
        "plaintext": plaintext,
        "envelope": envelope,
        "request_hash": request_hash(envelope),
    }


def answers(story: Story, withdrawn: bytes, ticket: bytes) -> list[dict[str, Any]]:
    """Answers to the withdrawal and to the ticket; both are given by their request hashes."""
    refused = refuse(story.answer_at, PeerError(Refusal.INSUFFICIENT_FUNDS, "there is too little on the account"))
    granted = Answer(story.answer_at, "", "", _withdraw_answer(story).encode())
    issued = Answer(story.answer_at, "", "", exchanges.ticket_issue(story).encode())
    return [
        _answer(story, story.withdraw_id, withdrawn, granted),
        _answer(story, story.withdraw_id, withdrawn, refused),
        _answer(story, exchanges.ticket_id(story), ticket, issued),
    ]


def _answer(story: Story, request: bytes, hashed: bytes, answer: Answer) -> dict[str, Any]:
    key = story.root.answer_key(request)
    signature = sign(story.identity_seed, Domain.ANSWER, hashed, answer.encode())
    return {
        "request_id": request,
        "request_hash": hashed,
        "answer_key": key,
        "signer": story.identity,
        "answer": shown(answer),
        "signature": signature,
        "plaintext": _SignedAnswer(answer.encode(), signature).encode(),
        "sealed": seal_answer(story.identity_seed, key, request, hashed, answer),
    }


def lanes(story: Story) -> list[dict[str, Any]]:
    tries = [(1, 0), (4, 0), (4, 1), (4, 5), (256, 0), (256, 255)]
    return [
        {"request_id": one, "lanes": count, "attempt": attempt, "lane": lane_of(one, count, attempt)}
        for one in (story.withdraw_id, bytes(16))
        for count, attempt in tries
    ]


def padding() -> list[dict[str, Any]]:
    return [
        {"plaintext_bytes": size, "padded_bytes": len(padded), "sha256_of_padded": hashlib.sha256(padded).digest()}
        for size in _PADDED
        for padded in (pad(b"\xaa" * size),)
    ]


def commission() -> list[dict[str, Any]]:
    return [
        {**shown(policy), "charges": [{"amount": one, "commission": policy.charge(one)} for one in amounts]}
        for policy, amounts in _COMMISSIONS
    ]
