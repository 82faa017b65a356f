"""Values made from types: what every message can hold, and what it must not.

A *wire value* is what stands in MessagePack before it has a type: numbers, texts, bytes, lists.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, Final

import msgpack
import msgspec.inspect as shape
from hypothesis import strategies as st

import protocol
from protocol.codec import Message
from protocol.commission import Commission
from protocol.money import MAX_AMOUNT

_SAMPLES: Final = {"currency": "USD", "name": "north-1", "kind": "merchant", "state": "queued", "digits": "0a"}
_UNTYPED: Final[tuple[Any, ...]] = (
    None,
    False,
    True,
    1.0,
    float("nan"),
    {},
    {0: 0},
    msgpack.ExtType(1, b"x" * 16),
    msgpack.Timestamp(1),
)


def message_types() -> list[type[Message]]:
    """Every message of the package, the private ones too."""
    for module in pkgutil.walk_packages(protocol.__path__, "protocol."):
        importlib.import_module(module.name)

    def below(kind: type[Message]) -> Iterator[type[Message]]:
        for child in kind.__subclasses__():
            if child.__module__.startswith("protocol."):
                yield child
                yield from below(child)

    return sorted(below(Message), key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def fields(kind: type[Message]) -> tuple[shape.Field, ...]:
    info = shape.type_info(kind)
    assert isinstance(info, shape.StructType)
    return info.fields


def strategy(kind: shape.Type) -> st.SearchStrategy[Any]:
    """All values of a type, up to sizes that are quick to try."""
    match kind:
        case shape.IntType():
            return st.integers(-(2**63) if kind.ge is None else kind.ge, 2**64 - 1 if kind.le is None else kind.le)
        case shape.StrType(pattern=str(pattern)):
            return st.from_regex(pattern)
        case shape.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 40))
        case shape.BytesType():
            least = kind.min_length or 0
            return st.binary(min_size=least, max_size=max(least, min(kind.max_length or 40, 40)))
        case shape.BoolType():
            return st.booleans()
        case shape.VarTupleType():
            least = kind.min_length or 0
            most = least + 2 if kind.max_length is None else min(least + 2, kind.max_length)
            return st.lists(strategy(kind.item_type), min_size=least, max_size=most).map(tuple)
        case shape.TupleType():
            return st.tuples(*map(strategy, kind.item_types))
        case shape.StructType(cls=cls) if cls is Commission:
            sums = st.integers(0, MAX_AMOUNT)
            bounds = st.tuples(sums, sums).map(sorted)
            return st.builds(
                lambda flat, rate, pair: Commission(flat, rate, *pair), sums, st.integers(0, 10**6), bounds
            )
        case shape.StructType():
            return st.builds(kind.cls, *(strategy(field.type) for field in kind.fields))
        case _:
            raise TypeError(kind)


def smallest(kind: shape.Type) -> Any:
    """The smallest wire value of a type."""
    match kind:
        case shape.IntType():
            return kind.ge or 0
        case shape.StrType(pattern=str(pattern)):
            fits = [text for text in _SAMPLES.values() if pattern_fits(pattern, text)]
            return fits[-1]
        case shape.StrType():
            return "x" * (kind.min_length or 0)
        case shape.BytesType():
            return bytes(kind.min_length or 0)
        case shape.BoolType():
            return False
        case shape.VarTupleType():
            return [smallest(kind.item_type)] * (kind.min_length or 0)
        case shape.TupleType():
            return [smallest(item) for item in kind.item_types]
        case shape.StructType():
            return [smallest(field.type) for field in kind.fields]
        case _:
            raise TypeError(kind)


def pattern_fits(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def wrong(kind: shape.Type) -> Iterator[Any]:
    """Wire values that a field of this type must refuse: other types, and just outside its bounds."""
    right = type(smallest(kind))
    yield from (value for value in _UNTYPED if type(value) is not right)
    typed: tuple[Any, ...] = (1, "x", b"x" * 32, [], [[]], [None] * 1000)
    yield from (value for value in typed if type(value) is not right)
    match kind:
        case shape.IntType():
            yield from (2**64 - 1,) if kind.le is not None else ()
            yield from (kind.ge - 1, -(2**63)) if kind.ge is not None else ()
            yield from (kind.le + 1,) if kind.le is not None else ()
        case shape.StrType(pattern=str(pattern)):
            good = smallest(kind)
            near = ("", good + "\n", "\n" + good, good + "\0", good.swapcase() + "!", "é", good * 100)
            yield from (text for text in near if not pattern_fits(pattern, text))
        case shape.StrType() | shape.BytesType() | shape.VarTupleType():
            one = smallest(kind.item_type) if isinstance(kind, shape.VarTupleType) else None
            filler: Any = [one] if right is list else right(b"x") if right is bytes else "x"
            yield from (filler * (kind.min_length - 1),) if kind.min_length else ()
            yield from (filler * (kind.max_length + 1),) if kind.max_length else ()
        case shape.TupleType() | shape.StructType():
            yield [*smallest(kind), 0]
            yield smallest(kind)[:-1]
