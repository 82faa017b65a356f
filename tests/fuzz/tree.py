"""What stands in bytes, as a tree of which every node can be exchanged."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

_ARRAYS: Final = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_DEEPEST: Final = 6
_UNREADABLE: Final = (ValueError, TypeError, RecursionError, msgpack.UnpackException)

Holder: TypeAlias = "list[Any] | dict[Any, Any]"


class Inner:
    """A message that stands, encoded, as bytes in another one."""

    def __init__(self, tree: list[Any]) -> None:
        self.tree = tree


class Place(NamedTuple):
    """A node of a tree: `holder[key]`."""

    holder: Holder
    key: Any

    @property
    def value(self) -> Any:
        return self.holder[self.key]

    def put(self, value: Any) -> None:
        self.holder[self.key] = value


class Codec(NamedTuple):
    """Reads bytes into a tree, and writes them. `read` raises ValueError for bytes that are none."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


def _read_packed(data: bytes) -> Any:
    try:
        return _opened(msgpack.unpackb(data, strict_map_key=False), 0)
    except _UNREADABLE as error:
        raise ValueError("not MessagePack") from error


def _opened(value: Any, depth: int) -> Any:
    """Open what is a message inside a message: signed statements, letters, payment information."""
    if isinstance(value, list):
        return [_opened(one, depth) for one in value]
    if not isinstance(value, bytes) or not value or value[0] not in _ARRAYS or depth == _DEEPEST:
        return value
    try:
        inner = msgpack.unpackb(value)
    except _UNREADABLE:
        return value
    return Inner([_opened(one, depth + 1) for one in inner]) if msgpack.packb(inner) == value else value


def _write_packed(tree: Any) -> bytes:
    packed: bytes = msgpack.packb(tree, default=lambda inner: _write_packed(inner.tree))
    return packed


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error


def _write_json(tree: Any) -> bytes:
    return json.dumps(tree, default=lambda other: repr(other)[:100]).encode()


MESSAGEPACK: Final = Codec(_read_packed, _write_packed)
JSON_TEXT: Final = Codec(_read_json, _write_json)


def places(tree: Any) -> tuple[list[Any], list[Place]]:
    """Return a list that holds the tree, and all places in it, the outermost first."""
    root = [tree]
    found: list[Place] = []
    todo: list[Holder] = [root]
    while todo:
        holder = todo.pop(0)
        keys = holder.keys() if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append(Place(holder, key))
            value = holder[key]
            if isinstance(value, Inner):
                todo.append(value.tree)
            elif isinstance(value, list | dict):
                todo.append(value)
    return root, found


def changed(codec: Codec, data: bytes, values: tuple[Any, ...]) -> Iterator[bytes]:
    """Yield `data` with one thing wrong: each field in turn each of these values, doubled, or left out."""
    root, found = places(codec.read(data))
    for place in found:
        right = place.value
        for value in values:
            place.put(value)
            yield codec.write(root[0])
        place.put(right)
        yield from _reshaped(codec, root, place)


def _reshaped(codec: Codec, root: list[Any], place: Place) -> Iterator[bytes]:
    if place.holder is root:
        return
    before: Any = copy.copy(place.holder)
    if isinstance(place.holder, dict):
        for key in (0, "", f"{place.key}x"):
            place.holder[key] = place.value
            yield codec.write(root[0])
            del place.holder[key]
        del place.holder[place.key]
        yield codec.write(root[0])
        place.holder.update(before)
        return
    for after in (
        [*before[: place.key], *before[place.key + 1 :]],
        [*before[: place.key], before[place.key], *before[place.key :]],
    ):
        place.holder[:] = after
        yield codec.write(root[0])
    place.holder[:] = before
