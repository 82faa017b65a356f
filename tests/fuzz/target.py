"""What a target is, and the words for what becomes of the bytes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from .forms import PACKED, Form

TAKEN: Final = "taken"
REFUSED: Final = "refused"
DROPPED: Final = "dropped"
INSIDE: Final = 1 << 16
"""What is sealed is cut to this length, in bytes: more would not fit in an envelope."""

Run = Callable[[bytes], Awaitable[str]]


class Target(NamedTuple):
    """Where bytes go.

    `seeds` are good ones, or nearly so, in a `form`. `run` returns one of the three words; whatever it raises is a
    finding.
    """

    name: str
    seeds: Sequence[bytes]
    run: Run
    form: Form = PACKED


def checked(check: Callable[[bytes], object], *expected: type[Exception]) -> Run:
    """Return a run of what refuses bytes by raising one of these."""

    async def run(data: bytes) -> str:
        try:
            check(data)
        except expected:
            return REFUSED
        return TAKEN

    return run
