"""What a form has sent."""

from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 600  # a shop's page has a quantity for each of up to 500 articles

_SECRETS: Final = frozenset({"secret", "passphrase", "again"})
"""Fields whose text counts as it was typed, with spaces around it."""

Form: TypeAlias = dict[str, str]
"""The fields by name, all but secrets without spaces around; the last one of a name counts."""


async def form_of(request: Request) -> Form:
    """Read the fields of a form.

    Raises:
        HTTPException: 415 if it is no form, 400 if it cannot be read.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(415, "That is no form.")
    try:
        text = (await request.body()).decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, "The form cannot be read.") from error
    return {name: value if name in _SECRETS else value.strip() for name, value in pairs}


def local_path(text: str, otherwise: str = "/") -> str:
    """Return a path of this site to go on to; another site's address is none."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        return otherwise
    return text
