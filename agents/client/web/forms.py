"""Fields of forms that several pages have; what is wrong with them is entered by field, as a sentence."""

from protocol.errors import PeerError
from protocol.token import check_memo

from ...web.forms import Form
from .telling import sentence

Wrong = dict[str, str]
"""What is wrong, by field."""


def whole_number(form: Form, name: str, otherwise: int, most: int, wrong: Wrong) -> int:
    """Return a whole number from 1 to `most` that was typed, or what stands for nothing typed."""
    text = form.get(name, "")
    if not text:
        return otherwise
    if text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= most:
        return int(text)
    wrong[name] = f"Write a whole number from 1 to {most}."
    return otherwise


def checked_memo(form: Form, wrong: Wrong) -> str:
    """Return the line for the other side."""
    try:
        return check_memo(form.get("memo", ""))
    except PeerError as error:
        wrong["memo"] = sentence(error.detail)
        return ""
