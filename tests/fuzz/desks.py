"""The bank's desks for exchange, refund, recovery, redemption, proof and payout as targets.

A digest that holds for one request id only would stop nearly all that is fuzzed at the coins' signatures: where the
bytes make a request at all, its coins are therefore good ones, spent anew on whatever it says.
"""

import msgspec

from agents.bank.store import DestinationRow
from protocol.codec import Message
from protocol.coins import SpentCoin, spend
from protocol.envelope import Letter, seal, seal_letter
from protocol.errors import PeerError
from protocol.exchange import TICKET, ExchangeRequest, RefundOrder, Ticket, exchange_digest
from protocol.messages import payer_digest
from protocol.payout import PayoutRequest
from protocol.proof import ProofRequest
from protocol.recovery import CheckRequest, FetchRequest, RecoverRequest, RedeemRequest, redeem_digest
from protocol.wallet.outputs import blind_outputs
from tests.agents.byhand import Caller, Purse
from tests.agents.world import BANK, START, Town
from tests.world import seed

from .target import INSIDE, REFUSED, TAKEN, Run, Target


async def desk_targets(town: Town, alice: Caller, keeper: Caller) -> list[Target]:
    """The targets. `alice` is a client with much money, `keeper` a merchant."""
    nobody = Caller(town, "nobody")
    await town.books.credit(town.shop_number, 10**9, "cash of the keeper")
    await town.books.set_destination(town.shop_number, DestinationRow("021000021", "12345", "checking", "The Keeper"))
    swapped, redeemed = await alice.withdraw(8), await alice.withdraw(8, 4, 2)
    commission = town.keyset.tariff.exchange.charge(8)
    ones = _outputs(town, alice, bytes(16), 8 - commission).outputs
    ticket = _outputs(town, alice, b"ticket".ljust(16), 1)
    bodies: dict[str, tuple[Caller, Message]] = {
        "check": (nobody, CheckRequest(ones[0].denomination, "")),
        "fetch": (nobody, FetchRequest(bytes(16))),
        "payout": (keeper, PayoutRequest(100, town.keyset.tariff.payout.charge(100))),
        "proof": (nobody, await _paid(alice, keeper)),
        "recover": (alice, RecoverRequest(0, 0)),
        "exchange": (nobody, ExchangeRequest(commission, _spend(swapped, bytes(32)), ones)),
        "redeem": (alice, RedeemRequest(0, town.keyset.tariff.redemption.charge(14), _spend(redeemed, bytes(32)))),
    }
    runs: dict[str, Run] = {
        "exchange": _exchanging(alice, swapped),
        "redeem": _redeeming(alice, redeemed),
    }
    order = RefundOrder(1, town.keyset.tariff.refund.charge(1), b"ticket")
    return [
        *(
            Target(f"bank: {kind}", [body.encode()], runs.get(kind) or _asking(caller, kind))
            for kind, (caller, body) in bodies.items()
        ),
        Target("bank: refund", [order.encode()], _asking(keeper, "refund")),
        Target("bank: ticket", [ticket.encode()], _refunding(keeper)),
        Target("bank: ticket's letter", [b"\x92\xc4\x00\xc4\x00"], _refunding(keeper, inside=False)),
    ]


def _outputs(town: Town, caller: Caller, request_id: bytes, count: int) -> Ticket:
    """Blinded coins of the smallest value."""
    smallest = town.ring.current("USD", START)[1]
    return Ticket(blind_outputs(caller.root, town.ring, request_id, [smallest] * count))


async def _paid(alice: Caller, keeper: Caller) -> ProofRequest:
    """Make a payment and return what proves it."""
    purse, salt, payment_id = await alice.withdraw(4), seed("salt")[:16], seed("payment")[:16]
    digest = payer_digest("sha-256", salt, payment_id, "the code")
    info = keeper.info(4, purse, payment_id=payment_id, payer_digest=digest)
    await keeper.verdict(keeper.deposit(info, purse))
    return ProofRequest(payment_id, salt, "the code")


def _spend(purse: Purse, digest: bytes) -> tuple[SpentCoin, ...]:
    return tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))


def _asking(caller: Caller, kind: str, request_id: bytes = b"") -> Run:
    async def run(data: bytes) -> str:
        return REFUSED if (await caller.ask(kind, data[:INSIDE], request_id=request_id)).refusal else TAKEN

    return run


def _exchanging(caller: Caller, purse: Purse) -> Run:
    nobody = Caller(caller.town, "nobody")

    async def run(data: bytes) -> str:
        request_id = seed(f"exchange {data.hex()}")[:16]
        try:
            asked = ExchangeRequest.decode(data)
        except PeerError:
            return await _asking(nobody, "exchange", request_id)(data)
        digest = exchange_digest(BANK, request_id, asked.commission, asked.outputs)
        body = msgspec.structs.replace(asked, coins=_spend(purse, digest))
        return await _asking(nobody, "exchange", request_id)(body.encode())

    return run


def _redeeming(caller: Caller, purse: Purse) -> Run:
    async def run(data: bytes) -> str:
        request_id = seed(f"redemption {data.hex()}")[:16]
        try:
            asked = RedeemRequest.decode(data)
        except PeerError:
            return await _asking(caller, "redeem", request_id)(data)
        body = msgspec.structs.replace(asked, coins=_spend(purse, redeem_digest(BANK, request_id, caller.key)))
        return await _asking(caller, "redeem", request_id)(body.encode())

    return run


def _refunding(keeper: Caller, *, inside: bool = True) -> Run:
    """Bytes as what a ticket's letter says (`inside`), or instead of the letter."""
    town = keeper.town

    async def run(data: bytes) -> str:
        key = town.keyset.envelope_key
        letter = Letter(TICKET, seed(f"ticket {data.hex()}")[:16], 2**53 - 1, bytes(32), b"", data[:INSIDE])
        sealed = seal_letter(key, letter, None) if inside else seal(key, TICKET, data[:INSIDE])
        order = RefundOrder(1, town.keyset.tariff.refund.charge(1), sealed)
        return await _asking(keeper, "refund")(order.encode())

    return run
