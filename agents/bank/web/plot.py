"""Plots as paths of SVG: what is outstanding, from the first step of time to now."""

from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 600
HEIGHT: Final = 150
_NICE: Final = (1, 2, 5, 10)


class Curve(NamedTuple):
    """A line and the area under it, as path data in a box of `WIDTH` by `HEIGHT`."""

    line: str
    area: str


def top_of(most: int) -> int:
    """Return where a scale from 0 ends that holds `most`: at 1, 2 or 5 times a power of ten."""
    power: int = 10 ** (len(str(most)) - 1)
    return next(one * power for one in _NICE if one * power >= most)


def curve(values: Sequence[int], top: int) -> Curve:
    """Return the curve of values at the ends of equal steps; before the first one there was nothing.

    Args:
        values: from 0 to `top`; one at least.
        top: where the scale ends.
    """
    xs = (WIDTH * i / len(values) for i in range(len(values) + 1))
    ys = (HEIGHT - HEIGHT * value / top for value in (0, *values))
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    return Curve(line, f"{line}V{HEIGHT}H0Z")
