"""§2, §3, §6, §7: how any request is treated, whatever it asks."""

import msgspec

from protocol import topics
from protocol.envelope import Letter, request_hash, seal
from protocol.messages import AccountRequest
from protocol.recovery import FetchAnswer, FetchRequest
from protocol.refusals import Refusal
from protocol.signatures import Domain, sign

from ..case import Skipped, Suite
from ..voice import HOUR_MS, Asking, Voice
from .visit import Visit

suite = Suite[Visit]("bank")

LOOK = AccountRequest(b"", 0)
_SMALLEST = 512


class _Signed(msgspec.Struct, array_like=True):
    letter: bytes
    signature: bytes


def _sealed(
    visit: Visit, voice: Voice, *, inside: str = "account", outside: str = "account", spoilt: bool = False
) -> bytes:
    """Return an envelope with a look at the client's account: of another kind inside, or with a wrong signature."""
    letter = Letter(inside, voice.new_id(), visit.clock.now() + HOUR_MS, bytes(32), voice.key, LOOK.encode())
    encoded, key = letter.encode(), visit.receiver.envelope_key
    signature = sign(voice.seed or bytes(32), Domain.REQUEST, key.key_id, encoded)
    if spoilt:
        signature = bytes([signature[0] ^ 1]) + signature[1:]
    return seal(key, outside, msgspec.msgpack.encode(_Signed(encoded, signature)))


async def _dropped(visit: Visit, what: str, payload: bytes, kind: str = "account") -> None:
    await visit.client_account()
    voice = visit.client
    topic = topics.bank_request(visit.keyset.bank, 0, kind, voice.link.client_id)
    await voice.dropped(what, topic, payload, voice.write(visit.receiver, "account", LOOK))


@suite.case("drop.nothing", "7.2", "What is no envelope is dropped without an answer: nothing, one byte, zeros.")
async def _nothing(visit: Visit) -> None:
    for payload in (b"", b"\1", bytes(18), bytes(2000)):
        await _dropped(visit, f"{len(payload)} bytes", payload)


@suite.case("drop.long", "2.3", "More than 524,288 bytes are dropped.")
async def _long(visit: Visit) -> None:
    envelope = visit.client.write(visit.receiver, "account", LOOK).envelope
    await _dropped(visit, "600,000 bytes that begin like an envelope", envelope.ljust(600_000, b"\0"))


@suite.case("drop.cut", "3.4", "An envelope that was cut or lengthened, or of which any part was altered, is dropped.")
async def _cut(visit: Visit) -> None:
    envelope = visit.client.write(visit.receiver, "account", LOOK).envelope
    await _dropped(visit, "an envelope without its last byte", envelope[:-1])
    await _dropped(visit, "an envelope with one byte more", envelope + b"\0")
    for place in (0, 1, 2, 17, 18, 40, len(envelope) - 600, len(envelope) - 1):
        altered = bytearray(envelope)
        altered[place] ^= 1
        await _dropped(visit, f"an envelope whose byte {place} was altered", bytes(altered))


@suite.case("drop.kind", "3.4", "An envelope opens as the kind that it was sealed as, and as no other.")
async def _kind(visit: Visit) -> None:
    await visit.client_account()
    await _dropped(visit, "an account letter on the topic of `withdraw`", _sealed(visit, visit.client), "withdraw")


@suite.case("drop.letter", "7.2", "A letter of another kind than its envelope is dropped.")
async def _letter(visit: Visit) -> None:
    await _dropped(
        visit, "a letter of kind `withdraw` sealed as `account`", _sealed(visit, visit.client, inside="withdraw")
    )


@suite.case("drop.signature", "7.2", "A letter with a wrong signature is dropped.")
async def _signature(visit: Visit) -> None:
    await _dropped(visit, "a letter with a wrong signature", _sealed(visit, visit.client, spoilt=True))


@suite.case("drop.parcel", "3.4", "What is sealed as a parcel is no request.")
async def _parcel(visit: Visit) -> None:
    await _dropped(visit, "a request that is sealed as `parcel`", _sealed(visit, visit.client, outside="parcel"))


@suite.case("drop.topic", "7.2", "A request on a topic with a lane that is none, or spelt otherwise, is dropped.")
async def _topic(visit: Visit) -> None:
    await visit.client_account()
    voice, bank = visit.client, visit.keyset.bank
    envelope = voice.write(visit.receiver, "account", LOOK).envelope
    for lane in (f"0{0}", "-1", "zero"):
        topic = f"{topics.ROOT}/{bank}/{lane}/account/{voice.link.client_id}"
        await voice.dropped(
            f"a request in lane {lane!r}", topic, envelope, voice.write(visit.receiver, "account", LOOK)
        )


@suite.case("encoding.one", "2.2", "A body in any but its one encoding is `malformed`.")
async def _one_encoding(visit: Visit) -> None:
    await visit.client_account()
    bodies = {
        "a longer form of 0": b"\x92\xc4\x00\xcc\x00",
        "a longer form of nothing": b"\x92\xc5\x00\x00\x00",
        "a longer array": b"\xdc\x00\x02\xc4\x00\x00",
        "something behind": LOOK.encode() + b"\x00",
        "an element too many": b"\x93\xc4\x00\x00\x00",
        "an element too few": b"\x91\xc4\x00",
        "a map": b"\x82\x00\xc4\x00\x01\x00",
        "text for bytes": b"\x92\xa0\x00",
        "a float": b"\x92\xc4\x00\xca\x00\x00\x00\x00",
        "nil": b"\x92\xc4\x00\xc0",
        "a negative number": b"\x92\xc4\x00\xff",
        "nothing": b"",
    }
    for what, body in bodies.items():
        await visit.client.refused(Refusal.MALFORMED, visit.receiver, "account", body, what=what)


@suite.case("encoding.bounds", "2.3", "A field beyond its bounds is `malformed`.")
async def _bounds(visit: Visit) -> None:
    await visit.client_account()
    for what, body in {
        "an invitation of 33 bytes": b"\x92\xc4\x21" + bytes(33) + b"\x00",
        "generation 2^31": b"\x92\xc4\x00\xce\x80\x00\x00\x00",
    }.items():
        await visit.client.refused(Refusal.MALFORMED, visit.receiver, "account", body, what=what)


@suite.case("answer.padded", "3.5", "An answer is padded to 512 bytes or the next power of two.")
async def _padded(visit: Visit) -> None:
    await visit.client_account()
    visit.notes.tell("account: a look")
    sealed = await visit.client.send(visit.client.write(visit.receiver, "account", LOOK))
    inner = len(sealed) - 17 - 12 - 16
    visit.notes.check(
        "a padded size", holds=inner >= _SMALLEST and inner & (inner - 1) == 0, came=f"{inner} bytes of plaintext"
    )


@suite.case(
    "answer.bound", "3.6", "An answer is bound to the request's hash: it opens for no other request of the same id."
)
async def _bound(visit: Visit) -> None:
    await visit.client_account()
    voice, request_id = visit.client, visit.client.new_id()
    visit.notes.tell("account: two requests under one id")
    first = voice.write(visit.receiver, "account", LOOK, request_id=request_id)
    second = voice.write(visit.receiver, "account", LOOK, request_id=request_id)
    voice.accepted("account", first.open(await voice.send(first)))
    told = second.open(await voice.send(second))
    visit.notes.same("to the second", Refusal.REQUEST_ID_REUSED.value, told.refusal)
    if request_hash(first.envelope) == request_hash(second.envelope):
        raise Skipped("the two requests were the same")


@suite.case("lane.each", "6.4", "A bank serves all its lanes, and gives one request the same answer in each.")
async def _lanes(visit: Visit) -> None:
    await visit.client_account()
    asking = visit.client.write(visit.receiver, "account", LOOK)
    lanes = min(visit.receiver.lanes, 8)
    visit.notes.tell(f"account: the same bytes in {lanes} lanes")
    answers = {await visit.client.send(asking, attempt=attempt) for attempt in range(lanes)}
    visit.notes.same("different answers:", 1, len(answers))


@suite.case("retry.late", "7.2", "A request that was answered is answered again the same, after its deadline as well.")
async def _after_its_deadline(visit: Visit) -> None:
    await visit.client_account()
    deadline = visit.clock.now() + 2_000
    asking = visit.client.write(visit.receiver, "account", LOOK, deadline=deadline)
    visit.notes.tell("account: a look whose deadline is 2 seconds ahead, and once more when it is past")
    first = asking.open(sealed := await visit.client.send(asking))
    if first.refusal == Refusal.REQUEST_EXPIRED:
        raise Skipped("it came too late already: the clocks of bank and suite disagree, or the bank is slow")
    await visit.clock.sleep_until(deadline + 50)
    visit.notes.same("the same answer, byte for byte:", sealed, await visit.client.send(asking))


@suite.case("questions.ids", "7.2", "A question is answered though its id was used before: nobody can spoil it so.")
async def _questions(visit: Visit) -> None:
    await visit.client_account()
    request_id = visit.client.new_id()
    await visit.client.granted(visit.receiver, "account", LOOK, request_id=request_id, what="a look")
    question = FetchRequest(request_id)
    body = await visit.stranger.granted(
        visit.receiver, "fetch", question, request_id=request_id, what="under the look's own id"
    )
    visit.notes.same("answers found:", 1, len(FetchAnswer.decode(body).found))


@suite.case("suite.both", "3.3", "Envelopes for each announced key open.")
async def _each_key(visit: Visit) -> None:
    await visit.client_account()
    for key in visit.keyset.envelope_keys:
        visit.notes.tell(f"account: sealed in suite {key.suite}")
        to = visit.receiver._replace(envelope_key=key)
        asking: Asking = visit.client.write(to, "account", LOOK)
        visit.client.accepted("account", asking.open(await visit.client.send(asking)))
