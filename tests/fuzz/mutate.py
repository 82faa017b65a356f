"""Bytes from good ones: a little wrong in the way that a bug, or somebody with patience, would make them."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from .hostile import AMOUNTS, OTHERS, PACKED_ONLY, WORDS
from .tree import JSON_TEXT, MESSAGEPACK, Codec, Inner, places

_MOST: Final = 1 << 20
_RAW: Final = (b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff")

Way = Callable[[bytes, random.Random], bytes]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((rng.randbytes(rng.randint(1, 40)), *_RAW)) + data[at:]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randint(1, 40) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    return (data * rng.choice((2, 2, 3, 3, 3, 50)))[:_MOST]


def _word(data: bytes, rng: random.Random) -> bytes:
    """Put a word in, instead of as much as it is long or between."""
    at, word = rng.randrange(len(data) + 1), rng.choice(WORDS)
    return data[:at] + word + data[at + rng.choice((0, 0, 1, len(word))) :]


def _swap(data: bytes, rng: random.Random) -> bytes:
    """Exchange two pieces."""
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _replace(codec: Codec, values: Sequence[Any]) -> Way:
    """Return a way that exchanges one value in the tree for a hostile one, or for another of the tree."""

    def replace(data: bytes, rng: random.Random) -> bytes:
        try:
            root, found = places(codec.read(data))
        except ValueError:
            return _flip(data, rng)
        place, other = rng.choice(found), rng.choice(found)
        leaf = _leaf(other.value)
        place.put(rng.choice((rng.choice(values), rng.choice(values), _near(place.value, rng), leaf, [leaf] * 2)))
        return codec.write(root[0])

    return replace


def _leaf(value: Any) -> Any:
    return len(value) if isinstance(value, list | dict) else b"" if isinstance(value, Inner) else value


def _near(value: Any, rng: random.Random) -> Any:
    """Return a value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            near: int = rng.choice((value + 1, value - 1, value * 2, rng.getrandbits(rng.randrange(1, 64))))
            return max(-(2**63), min(near, 2**64 - 1))
        case bytes():
            return rng.choice((_flip(value, rng), rng.randbytes(len(value)), value[:-1], value + b"\0"))
        case str():
            return rng.choice((value + "x", value[:-1], value.upper(), value + "\n", value[::-1]))
        case list():
            return rng.choice((value[:-1], value * 2, value[::-1], rng.sample(value, len(value))))
        case _:
            return None


_BYTES: Final = (_flip, _cut, _insert, _remove, _repeat)
_IN_PACKED: Final = _replace(MESSAGEPACK, (*AMOUNTS, *OTHERS, *PACKED_ONLY))
_IN_JSON: Final = _replace(JSON_TEXT, (*AMOUNTS, *OTHERS))
PACKED: Final[Sequence[Way]] = (*_BYTES, *[_IN_PACKED] * 6)
JSON: Final[Sequence[Way]] = (*_BYTES, _word, *[_IN_JSON] * 6)
TEXTS: Final[Sequence[Way]] = (*_BYTES, *[_word] * 4, _swap)


def mutate(data: bytes, rng: random.Random, ways: Sequence[Way] = PACKED) -> bytes:
    """Return `data` changed in one to three of these ways."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(ways)(data, rng)
    return data[:_MOST]
