"""QR codes as pictures in a page."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

import segno
from markupsafe import Markup

from protocol.token import fits_qr

_PEN: Final = ThreadPoolExecutor(1, thread_name_prefix="qr")  # one, so that many who ask do not take all threads
_KEPT: Final = 32


async def drawn(text: str) -> Markup | None:
    """Return the same as `picture`, while other things go on: a long text takes up to a second."""
    return await asyncio.get_running_loop().run_in_executor(_PEN, picture, text)


@lru_cache(_KEPT)
def picture(text: str) -> Markup | None:
    """Return a QR code as inline SVG that takes the colours of the page; None if the text is too long for one.

    Args:
        text: in any case; it is drawn in upper case, which takes the alphanumeric mode (ISO/IEC 18004).
    """
    drawn = text.upper()
    if not fits_qr(drawn):
        return None
    code = segno.make_qr(drawn, error="L", boost_error=False)
    # The whole of it is written by segno from modules alone: no character of the text is in it.
    svg = code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr-code", lineclass=None)
    return Markup(svg)  # noqa: S704
