"""What a target is, and the words for what becomes of the bytes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

TAKEN: Final = "taken"
REFUSED: Final = "refused"
DROPPED: Final = "dropped"
INSIDE: Final = 1 << 16
"""What is sealed is cut to this length, in bytes: more would not fit in an envelope."""

Run = Callable[[bytes], Awaitable[str]]


class Target(NamedTuple):
    """Where bytes go. `run` returns one of the three words; whatever it raises is a finding."""

    name: str
    seeds: Sequence[bytes]
    run: Run
