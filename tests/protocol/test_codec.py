import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_MESSAGE, Label, Message, Small, Time
from protocol.errors import PeerError
from protocol.refusals import Refusal


class Inner(Message, frozen=True):
    at: Time


class Sample(Message, frozen=True):
    at: Time
    data: Small
    label: Label
    inner: tuple[Inner, ...]


SAMPLE = Sample(5, b"ab", "c", (Inner(7),))
ENCODED = b"\x94" + b"\x05" + b"\xc4\x02ab" + b"\xa1c" + b"\x91\x91\x07"


def assert_malformed(data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        Sample.decode(data)
    assert caught.value.refusal is Refusal.MALFORMED


def test_a_message_is_an_array_of_its_fields_in_order() -> None:
    assert SAMPLE.encode() == ENCODED == msgpack.packb([5, b"ab", "c", [[7]]])
    assert Sample.decode(ENCODED) == SAMPLE


NOT_CANONICAL = {
    "array 16": b"\xdc\x00\x04" + ENCODED[1:],
    "array 32": b"\xdd\x00\x00\x00\x04" + ENCODED[1:],
    "inner array 16": ENCODED[:-3] + b"\xdc\x00\x01\x91\x07",
    "uint 8": b"\x94\xcc\x05" + ENCODED[2:],
    "uint 16": b"\x94\xcd\x00\x05" + ENCODED[2:],
    "uint 32": b"\x94\xce\x00\x00\x00\x05" + ENCODED[2:],
    "uint 64": b"\x94\xcf" + bytes(7) + b"\x05" + ENCODED[2:],
    "int 8": b"\x94\xd0\x05" + ENCODED[2:],
    "int 16": b"\x94\xd1\x00\x05" + ENCODED[2:],
    "int 32": b"\x94\xd2\x00\x00\x00\x05" + ENCODED[2:],
    "int 64": b"\x94\xd3" + bytes(7) + b"\x05" + ENCODED[2:],
    "bin 16": b"\x94\x05\xc5\x00\x02ab" + ENCODED[6:],
    "bin 32": b"\x94\x05\xc6\x00\x00\x00\x02ab" + ENCODED[6:],
    "text for bytes": b"\x94\x05\xa2ab" + ENCODED[6:],
    "str 8": ENCODED[:6] + b"\xd9\x01c" + ENCODED[8:],
    "str 16": ENCODED[:6] + b"\xda\x00\x01c" + ENCODED[8:],
    "str 32": ENCODED[:6] + b"\xdb\x00\x00\x00\x01c" + ENCODED[8:],
    "bytes for text": ENCODED[:6] + b"\xc4\x01c" + ENCODED[8:],
}
HOSTILE = {
    "nothing": b"",
    "never used byte": b"\xc1",
    "never used byte inside": b"\x94\xc1" + ENCODED[2:],
    "trailing byte": ENCODED + b"\x00",
    "two messages": ENCODED * 2,
    "one field more": b"\x95" + ENCODED[1:] + b"\x00",
    "one field more inside": ENCODED[:-2] + b"\x92\x07\x00",
    "one field fewer": b"\x93" + ENCODED[1:-3],
    "map": msgpack.packb({"at": 5, "data": b"ab", "label": "c", "inner": [[7]]}),
    "map inside": ENCODED[:-2] + msgpack.packb({"at": 7}),
    "extension": b"\x94\xd4\x01\x05" + ENCODED[2:],
    "extension for bytes": b"\x94\x05\xc7\x02\x01ab" + ENCODED[6:],
    "timestamp": b"\x94" + msgpack.packb(msgpack.Timestamp(5)) + ENCODED[2:],
    "float 32": b"\x94\xca\x40\xa0\x00\x00" + ENCODED[2:],
    "float 64": b"\x94\xcb\x40\x14" + bytes(6) + ENCODED[2:],
    "not a number": b"\x94\xcb\x7f\xf8" + bytes(6) + ENCODED[2:],
    "negative": b"\x94\xff" + ENCODED[2:],
    "bad UTF-8": ENCODED[:7] + b"\xff" + ENCODED[8:],
    "overlong UTF-8": ENCODED[:6] + b"\xa2\xc0\x80" + ENCODED[8:],
    "surrogate in UTF-8": ENCODED[:6] + b"\xa3\xed\xa0\x80" + ENCODED[8:],
    "half a character": ENCODED[:6] + b"\xa1\xc3" + ENCODED[8:],
    "array of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "inner array of 2**32 - 1": ENCODED[:-3] + b"\xdd\xff\xff\xff\xff",
    "inner array of 10 million": ENCODED[:-3] + b"\xdd\x00\x98\x96\x80" + b"\x91\x07" * 100,
    "map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "bytes of 2**32 - 1": b"\x94\x05\xc6\xff\xff\xff\xff" + ENCODED[6:],
    "text of 2**32 - 1": ENCODED[:6] + b"\xdb\xff\xff\xff\xff" + ENCODED[8:],
    "extension of 2**32 - 1": b"\x94\xc9\xff\xff\xff\xff\x01" + ENCODED[2:],
    "bytes too long": Sample(5, b"x" * 4097, "c", ()).encode(),
    "text too long": Sample(5, b"", "c" * 121, ()).encode(),
    "text too short": Sample(5, b"", "", ()).encode(),
    "too late": Sample(2**53, b"", "c", ()).encode(),
}


@pytest.mark.parametrize("data", NOT_CANONICAL.values(), ids=NOT_CANONICAL)
def test_another_encoding_of_the_same_values_is_malformed(data: bytes) -> None:
    same = msgpack.unpackb(data, raw=True), msgpack.unpackb(ENCODED, raw=True)
    assert same[0] == same[1], "this is about encodings, not values"
    assert_malformed(data)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    assert_malformed(data)


def test_a_message_cut_anywhere_is_malformed() -> None:
    for length in range(len(ENCODED)):
        assert_malformed(ENCODED[:length])


@pytest.mark.parametrize("depth", [1, 2, 3, 33, 512, 1_024, 10_000, 500_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x00", b"\x81"], ids=["arrays", "maps in values", "maps in keys"])
def test_deep_nesting_is_malformed_wherever_it_stands(depth: int, opening: bytes) -> None:
    nested = opening * depth + b"\xc0"
    assert_malformed(nested)
    assert_malformed(ENCODED[:-3] + nested)
    assert_malformed(ENCODED[:-2] + nested)
    assert_malformed(b"\x95" + ENCODED[1:] + nested)


def test_a_message_may_have_as_many_bytes_as_the_bound_and_no_more() -> None:
    count = (MAX_MESSAGE - len(Sample(5, b"", "c", ()).encode()) - 4) // 2
    long = Sample(5, b"ab", "c", (Inner(7),) * count)
    longest = Sample(5, b"x" * (2 + MAX_MESSAGE - len(long.encode())), "c", long.inner)
    assert len(longest.encode()) == MAX_MESSAGE
    assert Sample.decode(longest.encode()) == longest
    assert_malformed(Sample(5, longest.data + b"x", "c", longest.inner).encode())
    assert_malformed(bytes(MAX_MESSAGE + 1))


def decoded(data: bytes) -> Sample | Refusal:
    try:
        return Sample.decode(data)
    except PeerError as error:
        return error.refusal


@given(st.binary(max_size=64))
def test_bytes_are_a_message_or_malformed(data: bytes) -> None:
    got = decoded(data)
    assert got is Refusal.MALFORMED if isinstance(got, Refusal) else got.encode() == data


@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 255))
def test_a_message_with_one_byte_changed_is_another_message_or_malformed(index: int, byte: int) -> None:
    changed = ENCODED[:index] + bytes([byte]) + ENCODED[index + 1 :]
    got = decoded(changed)
    assert got in (Refusal.MALFORMED, SAMPLE) or (isinstance(got, Sample) and got.encode() == changed)
    assert (got == SAMPLE) == (changed == ENCODED)
