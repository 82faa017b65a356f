"""QR codes in the terminal."""

from io import StringIO
from typing import Final

import segno

from protocol.token import fits_qr

_BORDER: Final = 2  # ISO/IEC 18004 asks for 4 modules of quiet zone; cameras take 2


def drawn(text: str, columns: int) -> str | None:
    """Return a QR code of an upper-case text, drawn with half blocks; None if it is too wide, or the text too long.

    Args:
        text: of the characters of the alphanumeric mode.
        columns: how many the terminal has; the code takes 21 to 177, and a margin.
    """
    if not fits_qr(text):
        return None
    code = segno.make_qr(text, error="L", boost_error=False)
    if code.symbol_size(border=_BORDER)[0] > columns:
        return None
    drawing = StringIO()
    code.terminal(drawing, border=_BORDER, compact=True)
    return drawing.getvalue()
