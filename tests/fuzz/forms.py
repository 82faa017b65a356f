"""The forms that inputs have: how they are made wrong, field by field and blindly."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from . import hostile, mutate
from .tree import JSON_TEXT, MESSAGEPACK, Codec, changed


class Form(NamedTuple):
    """What inputs are.

    Attributes:
        hostile: whole inputs that are wrong.
        ways: to change one blindly.
        codec: opens it, if it has fields.
    """

    hostile: Sequence[bytes]
    ways: Sequence[mutate.Way]
    codec: Codec | None = None

    def sweep(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` with each field in turn wrong in all ways that are known; or cut at each byte."""
        if self.codec is None:
            yield from (data[:end] for end in range(min(len(data), 2000)))
            return
        try:
            yield from changed(self.codec, data, (*hostile.AMOUNTS, *hostile.OTHERS))
        except ValueError:  # a seed that is no message
            return

    def mutate(self, data: bytes, rng: random.Random) -> bytes:
        """Return `data` changed at random."""
        return mutate.mutate(data, rng, self.ways)


PACKED: Final = Form(hostile.PACKED, mutate.PACKED, MESSAGEPACK)
JSON: Final = Form(hostile.JSON, mutate.JSON, JSON_TEXT)
TEXT: Final = Form(hostile.TEXTS, mutate.TEXTS)
RAW: Final = Form(hostile.PACKED, mutate.PACKED)
"""Sealed: its fields are out of reach."""
