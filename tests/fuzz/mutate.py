"""Bytes from good ones: a little wrong in the way that a bug, or somebody with patience, would make them."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

_MOST: Final = 1 << 20
_HOSTILE: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**53,
    2**63,
    2**64 - 1,
    1.5,
    float("nan"),
    b"",
    "",
    "\0",
    "\U0001f600" * 50,
    b"\xff" * 32,
    b"x" * 5000,
    [],
    {},
    {"a": 1},
    [[]] * 300,
    msgpack.ExtType(5, b"x"),
)
_RAW: Final = (b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff")


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
    return (data * rng.choice((2, 3, 600)))[:_MOST]


def _replace(data: bytes, rng: random.Random) -> bytes:
    """Exchange one value in the tree for a hostile one, or for another of the tree."""
    try:
        tree = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return _flip(data, rng)
    nodes: list[tuple[list[Any], int]] = []
    stack = [[tree]]
    root = stack[0]
    while stack:
        node = stack.pop()
        nodes += [(node, index) for index in range(len(node))]
        stack += [child for child in node if isinstance(child, list)]
    parent, index = rng.choice(nodes)
    other, at = rng.choice(nodes)
    parent[index] = rng.choice((rng.choice(_HOSTILE), rng.choice(_HOSTILE), _leaf(other[at]), [_leaf(other[at])] * 2))
    packed: bytes = msgpack.packb(root[0], use_bin_type=True)
    return packed


def _leaf(value: Any) -> Any:
    return value if not isinstance(value, list) else len(value)


_WAYS: Final[Sequence[Callable[[bytes, random.Random], bytes]]] = (
    _flip,
    _cut,
    _insert,
    _remove,
    _repeat,
    _replace,
    _replace,
    _replace,
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` changed in one to three ways."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(_WAYS)(data, rng)
    return data[:_MOST]
