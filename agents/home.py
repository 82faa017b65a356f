"""An agent's home: a folder of its own with settings, secrets and a database, used by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


class HomeError(Exception):
    """The home is not usable; the text says why and what to do."""


class HomeInUse(HomeError):
    """Another process holds the home; it may be free in a moment."""


def make(home: Path) -> None:
    """Make an empty home that only its owner can enter.

    Raises:
        HomeError: if there is something in it already.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(home.iterdir()):
        raise HomeError(f"{home} is not empty: choose another folder with --home")
    home.chmod(0o700)


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, whole and synced before it has its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # whatever is there, its readers are not to have this
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_settings(home: Path, name: str, settings: msgspec.Struct) -> None:
    """Write settings as TOML to `name`.toml in the home (they may hold the broker's password)."""
    lines = (f"{key} = {_toml(value)}" for key, value in msgspec.to_builtins(settings).items())
    write_secret(home / f"{name}.toml", ("\n".join(lines) + "\n").encode())


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()  # our settings are texts, numbers and lists of texts: the same in both


def load_settings(home: Path, name: str, kind: type[_T]) -> _T:
    """Read settings from the home.

    Raises:
        HomeError: if there are none, or a line is wrong.
    """
    try:
        return read_toml(home / f"{name}.toml", kind)
    except FileNotFoundError:
        raise HomeError(f"{home} is no home of a {name}: run `ecash {name} init --home {home}` first") from None


def read_toml(path: Path, kind: type[_T]) -> _T:
    """Read a TOML file.

    Raises:
        HomeError: with file and reason, if it is none, or a value is wrong.
        OSError: if it cannot be read.
    """
    data = path.read_bytes()
    try:
        return msgspec.toml.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # no UTF-8, too many digits, or too deep
        raise HomeError(f"{path}: {error}") from error


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home against every other process.

    Raises:
        HomeInUse: if another process holds it.
    """
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(f"{home} is in use by another process: one at a time") from None
        yield
