"""The operator's key: who shows it may use the bank's pages."""

import hmac
from pathlib import Path
from typing import Final

from ...home import HomeError, write_secret
from ...invitation import read_invitation, write_invitation
from ...world import Entropy

_PATH: Final = "keys/web"


def operator_key(home: Path, entropy: Entropy, *, new: bool = False) -> str:
    """Return the key as its holder types it: 16 random bytes, made at first use, or if a `new` one is asked for."""
    path = home / _PATH
    if new or not path.exists():
        write_secret(path, (write_invitation(entropy.bytes(16)) + "\n").encode())
    return _read(path)


def is_operator(home: Path, typed: str) -> bool:
    """Tell whether this is the key now, however it was spaced or capitalised."""
    try:
        shown = read_invitation(typed)
    except ValueError:
        return False
    return hmac.compare_digest(shown, read_invitation(_read(home / _PATH)))


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
        read_invitation(text)
    except (OSError, ValueError) as error:
        raise HomeError(f"{path} holds no key: `ecash bank web --new-key` makes one") from error
    return text
