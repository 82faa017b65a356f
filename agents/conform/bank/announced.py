"""§5, §6.1, §24: what a bank announces."""

from contextlib import AsyncExitStack

from protocol import topics
from protocol.envelope import Suite as Kem
from protocol.errors import PeerError
from protocol.keyset import check_successor, open_keyset
from protocol.messages import Signed, Status
from protocol.totals import check_growth, open_totals

from ..case import Skipped, Suite, shown
from ..voice import speaking
from .visit import Visit, code_of

suite = Suite[Visit]("bank")


async def _fresh(visit: Visit, topic: str) -> bytes:
    """Return what is retained on a topic, asked for over a new presence: brokers need not send it twice to one."""
    visit.notes.tell(f"a subscription to {topic}")
    async with AsyncExitStack() as stack:
        voice = await stack.enter_async_context(speaking(visit.address.broker, visit.notes, visit.clock, visit.entropy))
        return await voice.requester.retained(topic)


@suite.case(
    "keys.announced", "5.1", "A bank announces its keyset, signed, as the retained message of its topic `keys`."
)
async def _announced(visit: Visit) -> None:
    data = await _fresh(visit, topics.keys(visit.address.bank))
    visit.notes.check("a retained keyset", holds=bool(data), came=f"{len(data)} bytes")


@suite.case(
    "keys.checks", "5.3", "A keyset passes all checks: version, name, fingerprint, signature, chain, keys, dates."
)
async def _checks(visit: Visit) -> None:
    try:
        keyset = open_keyset(visit.address.bank, visit.address.fingerprint, visit.announcement)
    except PeerError as error:
        visit.notes.fail("a keyset that passes all checks", code_of(error))
    visit.notes.check("a keyset that passes all checks", holds=True, came=f"keyset {keyset.number}")


@suite.case("keys.once", "5.3", "No denomination stands twice; what is revoked is named once.")
async def _once(visit: Visit) -> None:
    ids = [denomination.id for denomination in visit.keyset.denominations]
    visit.notes.same("as many ids as denominations:", len(ids), len(set(ids)))
    visit.notes.same("as many ids as revocations:", len(visit.keyset.revoked), len(set(visit.keyset.revoked)))


@suite.case("keys.commission", "4.2", "The maximum of each commission is 0 or not less than its minimum.")
async def _commission(visit: Visit) -> None:
    tariff = visit.keyset.tariff
    kinds = (tariff.withdrawal, tariff.deposit, tariff.exchange, tariff.refund, tariff.redemption, tariff.payout)
    visit.notes.check(
        "no maximum below its minimum",
        holds=all(one.maximum == 0 or one.minimum <= one.maximum for one in kinds),
        came="six commissions",
    )


@suite.case("keys.envelope", "3.3", "The first envelope key is of suite 1 (32 bytes) or 2 (1,216 bytes).")
async def _envelope(visit: Visit) -> None:
    key = visit.receiver.envelope_key
    sizes = {Kem.X25519: 32, Kem.MLKEM768_X25519: 1216}
    visit.notes.check(
        "32 bytes in suite 1, or 1,216 in suite 2",
        holds=(key.suite, len(key.public)) in sizes.items(),
        came=f"{len(key.public)} bytes in suite {key.suite}",
    )


@suite.case("keys.follows", "5.4", "What is announced now is the keyset that was announced before, or follows it.")
async def _follows(visit: Visit) -> None:
    data = await _fresh(visit, topics.keys(visit.address.bank))
    checked = set(visit.ring.ids)
    try:
        check_successor(visit.keyset, open_keyset(visit.address.bank, visit.address.fingerprint, data, checked))
    except PeerError as error:
        visit.notes.fail("the known keyset or one that follows it", code_of(error))
    visit.notes.check("the known keyset or one that follows it", holds=True, came=shown(data))


@suite.case("status.announced", "6.1", "The retained `Status` of an open bank says so, and names its lanes.")
async def _status(visit: Visit) -> None:
    status = Status.decode(await _fresh(visit, topics.status(visit.address.bank)))
    visit.notes.same("the status", Status(open=True, lanes=visit.keyset.limits.lanes), status)


@suite.case("totals.announced", "24", "A bank announces signed totals of its denominations under its newest keyset.")
async def _totals(visit: Visit) -> None:
    data = await _fresh(visit, topics.totals(visit.address.bank))
    try:
        totals = open_totals(Signed.decode(data), visit.keyset)
    except PeerError as error:
        visit.notes.fail("totals that pass all checks", code_of(error))
    visit.totals = data
    visit.notes.same("keyset", visit.keyset.hash, totals.keyset)


async def grown(visit: Visit) -> None:
    """Check that the totals, as they are announced now, undo nothing of what they said at the beginning."""
    if not visit.totals:
        raise Skipped("no totals were seen at the beginning")
    data = await _fresh(visit, topics.totals(visit.address.bank))
    try:
        before = open_totals(Signed.decode(visit.totals), visit.keyset)
        check_growth(before, open_totals(Signed.decode(data), visit.keyset), visit.keyset)
    except PeerError as error:
        visit.notes.fail("totals in which nothing is undone", code_of(error))
    visit.notes.check("totals in which nothing is undone", holds=True, came=shown(data))
