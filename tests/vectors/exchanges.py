"""The vectors of exchange, refund, recovery, redemption, proof, payout, totals, tokens and payment links."""

import hashlib
from typing import Any

from protocol.coins import Coin, Evidence, SpentCoin, spend
from protocol.envelope import EnvelopePrivateKey, Letter, Suite
from protocol.exchange import (
    TICKET,
    ExchangeRequest,
    Issue,
    RefundAnswer,
    RefundOrder,
    RefundOrderAnswer,
    RefundRequest,
    Ticket,
    exchange_digest,
)
from protocol.keyset import KeyRing
from protocol.messages import BlindedCoin, BlindSignature, Signed
from protocol.payment_link import PaymentLink
from protocol.payout import PayoutAnswer, PayoutRequest, PayoutStatus
from protocol.proof import PaymentProof, ProofAnswer, ProofRequest
from protocol.recovery import (
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    FetchRequest,
    RecoverAnswer,
    RecoverRequest,
    RedeemAnswer,
    RedeemRequest,
    Spending,
    StoredAnswer,
    redeem_digest,
    seal_spending,
)
from protocol.signatures import Domain, public_key
from protocol.token import Acknowledgement, Token, new_request, seal_acknowledgement
from protocol.totals import DenominationTotal, Totals
from protocol.wallet.outputs import blind_outputs, unblind_outputs
from tests.vectors.story import DAY, NOW, Story, seed, shown

_GENERATION = 1


def _outputs(story: Story, request_id: bytes, count: int) -> tuple[BlindedCoin, ...]:
    return blind_outputs(story.root, KeyRing(story.keyset), request_id, [story.denomination.id] * count)


def _issue(story: Story, outputs: tuple[BlindedCoin, ...]) -> Issue:
    signed = (pow(int.from_bytes(one.blinded), story.d, story.rsa.n).to_bytes(256) for one in outputs)
    return Issue(tuple(BlindSignature(story.denomination.id, signature) for signature in signed))


def _coins(story: Story, request_id: bytes, count: int) -> tuple[Coin, ...]:
    asked, issue = [story.denomination.id] * count, _issue(story, _outputs(story, request_id, count))
    coins, wrong = unblind_outputs(story.root, KeyRing(story.keyset), request_id, asked, issue.coins)
    if wrong:
        raise ValueError(wrong)
    return tuple(coin for _, coin in coins)


def _spent(story: Story, coins: tuple[Coin, ...], request_id: bytes, digest: bytes) -> tuple[SpentCoin, ...]:
    """Coins of a request, spent."""
    return tuple(spend(coin, story.root.coin(request_id, index), digest) for index, coin in enumerate(coins))


def exchange_id(story: Story) -> bytes:
    """The id of the wallet's first exchange."""
    return story.root.exchange_id(story.identity, _GENERATION, 0)


def ticket_id(story: Story) -> bytes:
    """The id of its first ticket, which is counted like an exchange."""
    return story.root.exchange_id(story.identity, _GENERATION, 1)


def exchange(story: Story) -> dict[str, Any]:
    """The coins of the withdrawal for two others."""
    request = exchange_id(story)
    outputs, commission = _outputs(story, request, 2), story.keyset.tariff.exchange.charge(1000)
    digest = exchange_digest(story.bank, request, commission, outputs)
    spent = _spent(story, story.coins, story.withdraw_id, digest)
    return {
        "generation": _GENERATION,
        "number": 0,
        "request_id": request,
        "digest": digest,
        "request": shown(ExchangeRequest(commission, spent, outputs)),
        "answer": shown(_issue(story, outputs)),
        "coins": [coin.encode() for coin in _coins(story, request, 2)],
    }


def ticket_letter(story: Story) -> Letter:
    """The ticket, as it is sealed for the bank."""
    request = ticket_id(story)
    body = Ticket(_outputs(story, request, 1)).encode()
    return Letter(TICKET, request, NOW + DAY, story.root.answer_key(request), b"", body)


def ticket_issue(story: Story) -> Issue:
    """What the bank answers to the ticket."""
    return _issue(story, _outputs(story, ticket_id(story), 1))


def ticket(story: Story) -> dict[str, Any]:
    """A ticket for one coin, and what comes of it."""
    request = ticket_id(story)
    return {
        "generation": _GENERATION,
        "number": 1,
        "request_id": request,
        **shown(Ticket(_outputs(story, request, 1))),
        "answer": shown(ticket_issue(story)),
        "coins": [coin.encode() for coin in _coins(story, request, 1)],
    }


def refund(story: Story, envelope: bytes, sealed: bytes) -> list[dict[str, Any]]:
    """What is said to merchant and bank; `envelope` is that of the ticket, `sealed` the answer to it."""
    said = [
        RefundRequest(story.info.digest, story.payreq.salt, b""),
        RefundAnswer(500, b""),
        RefundRequest(story.info.digest, story.payreq.salt, envelope),
        RefundOrder(500, story.keyset.tariff.refund.charge(500), envelope),
        RefundOrderAnswer(sealed),
        RefundAnswer(500, sealed),
    ]
    return [shown(message) for message in said]


def recovery(story: Story, sealed: bytes, hashed: bytes) -> dict[str, Any]:
    """The answer to the withdrawal once more (`sealed`, and its request's hash), and a spending of the payment."""
    stored = StoredAnswer(story.withdraw_id, hashed, sealed)
    paid = story.spent[0]
    evidence = Evidence(paid.coin.denomination, paid.coin.serial, story.info.digest, paid.spend)
    spending = seal_spending(evidence)
    said = [
        RecoverRequest(_GENERATION, 0),
        RecoverAnswer((stored,), 1, 0),
        FetchRequest(story.withdraw_id),
        FetchAnswer((stored,)),
        FetchAnswer(()),
        CheckRequest(evidence.denomination, ""),
        CheckRequest(evidence.denomination, evidence.serial.hex()[:4]),
        CheckAnswer((spending,), complete=True),
    ]
    return {
        "spending": {
            "denomination": evidence.denomination,
            "serial": evidence.serial,
            **shown(Spending(evidence.digest, evidence.spend)),
            "sealed": shown(spending),
        },
        "bodies": [shown(message) for message in said],
    }


def redemption(story: Story) -> dict[str, Any]:
    """The coins of the exchange go back into the account."""
    request, account = story.new_id("redeem"), public_key(story.account_seed)
    digest, commission = redeem_digest(story.bank, request, account), story.keyset.tariff.redemption.charge(1000)
    spent = _spent(story, _coins(story, exchange_id(story), 2), exchange_id(story), digest)
    return {
        "request_id": request,
        "digest": digest,
        "request": shown(RedeemRequest(_GENERATION, commission, spent)),
        "answer": shown(RedeemAnswer(1000, commission)),
    }


def payment_proof(story: Story) -> PaymentProof:
    """The bank's statement that the payment was accepted."""
    verdict = Signed.make(story.identity_seed, Domain.VERDICT, story.verdict()).encode()
    return PaymentProof(story.bank, story.info.encode(), verdict, story.answer_at + DAY)


def proof(story: Story) -> dict[str, Any]:
    """The payer shows its code."""
    salt, code = story.root.payer_salt(story.pay_id), story.root.payer_code(story.pay_id)
    signed = Signed.make(story.identity_seed, Domain.PROOF, payment_proof(story))
    return {
        "request": shown(ProofRequest(story.payreq.payment_id, salt, code)),
        "answer": shown(ProofAnswer(signed.encode())),
    }


def totals(story: Story) -> Totals:
    """What the bank has signed and taken back after the payment."""
    counted = (DenominationTotal(story.denomination.id, 3, 2),)
    return Totals(story.bank, story.keyset.hash, 17, story.answer_at, counted)


def token(story: Story) -> dict[str, Any]:
    """The coins of the exchange are given away, on request, and received."""
    address = story.bank, hashlib.sha256(story.identity).digest(), "mqtt://broker.example:1883"
    request, key = exchange_id(story), EnvelopePrivateKey(Suite.X25519, seed("inbox")).public
    asked = new_request(address, "USD", 1000, "lunch", (seed("inbox", 16).hex(), key), NOW + DAY)
    pairs = [(coin, story.root.coin(request, index)) for index, coin in enumerate(_coins(story, request, 2))]
    given = Token.of(*address, "USD", "lunch, with thanks", pairs)
    answer_key, letter_id, told = seed("token answer"), story.new_id("token"), Acknowledgement("", "")
    return {
        "request": shown(asked, text=str(asked)),
        **shown(given, text=str(given), hash=given.hash),
        "acknowledgement": shown(
            told,
            request_id=letter_id,
            answer_key=answer_key,
            sealed=seal_acknowledgement(answer_key, letter_id, given.hash, told),
        ),
    }


def payment_link(story: Story) -> dict[str, Any]:
    """The merchant's payment request, as its page shows it."""
    signed = Signed.make(story.merchant_seed, Domain.PAYREQ, story.payreq).encode()
    fingerprint = hashlib.sha256(story.identity).digest()
    link = PaymentLink.of(story.certificate.merchant, story.bank, fingerprint, "mqtt://broker.example:1883", signed)
    return shown(link, text=str(link))


def payout() -> list[dict[str, Any]]:
    """A merchant asks for money, and looks at it later."""
    at = NOW + DAY
    said = [
        PayoutRequest(700, 25),
        PayoutAnswer(263, (PayoutStatus(0, 700, 25, "queued", "", at),)),
        PayoutRequest(0, 0),
        PayoutAnswer(
            963,
            (
                PayoutStatus(2, 700, 25, "returned", "R03: no account", at + 2 * DAY),
                PayoutStatus(1, 50, 25, "settled", "", at),
            ),
        ),
    ]
    return [shown(message) for message in said]
