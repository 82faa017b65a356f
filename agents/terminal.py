"""What all commands share: options, errors told to people, tables, passphrases, and running until stopped."""

import asyncio
import functools
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.child import BrokerFailed
from broker.mosquitto import NotInstalled
from broker.port import LinkDown, LinkError
from protocol.errors import PeerError
from protocol.refusals import TABLE
from protocol.topics import check_name

from .bank.store import BooksError
from .client.seed import WrongPassphrase
from .client.store import CoinsTaken, NoSuchExchange
from .client.wallet import WalletError
from .database import NewerSchema, OlderSchema
from .home import HomeError
from .requester import NobodyAnswers
from .service import set_up_logging

_P = ParamSpec("_P")
_T = TypeVar("_T")

STILL_OPEN: Final = 3
"""Exit code of a command whose exchange has not ended yet: it will be carried on by the next one."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
LogLevel = Annotated[
    str, typer.Option("--log", envvar="ECASH_LOG", help="How much to log: debug, info, warning, error.")
]
BrokerOption = Annotated[
    str, typer.Option(envvar="ECASH_BROKER", help="The broker: mqtt://[user:password@]host[:port].")
]

_EXPECTED: Final = (
    BooksError,
    BrokerFailed,
    CoinsTaken,
    HomeError,
    LinkError,
    NewerSchema,
    NoSuchExchange,
    NobodyAnswers,
    NotInstalled,
    OlderSchema,
    ValueError,
    WalletError,
    WrongPassphrase,
)


def told(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Tell expected errors in a sentence, with exit code 1; anything else is a bug and shows where it is."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return command(*args, **kwargs)
        except PeerError as error:
            fail(f"{TABLE[error.refusal].meaning} ({error.detail or error.refusal})")
        except LinkDown as error:
            fail(f"{error}. Is the broker running? `ecash broker run` starts one.")
        except sqlite3.OperationalError as error:
            fail(f"the database cannot be used now: {error}. Is the disk full, or does another program hold the file?")
        except _EXPECTED as error:
            fail(str(error))
        except BaseExceptionGroup as group:
            expected = group.subgroup((PeerError, *_EXPECTED))
            if expected is None or group.split((PeerError, *_EXPECTED))[1] is not None:
                raise
            fail("; ".join(sorted({str(leaf) for leaf in _leaves(expected)})))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]


def fail(sentence: str) -> NoReturn:
    """Say what went wrong and end with exit code 1."""
    err.print(Text.assemble(("error: ", "bold red"), sentence), soft_wrap=True)
    raise typer.Exit(1)


def run(work: Coroutine[Any, Any, _T], log: str = "warning") -> _T:
    """Run asynchronous work to its end."""
    set_up_logging(log)
    return asyncio.run(work)


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")


def table(*columns: str, right: Sequence[int] = ()) -> Table:
    """Return an empty table; the columns numbered in `right` hold figures."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in right else "left")
    return made


def name_of(text: str) -> str:
    """Return a name that may stand in a topic.

    Raises:
        ValueError: if it may not, with a sentence for the person who typed it.
    """
    try:
        return check_name(text)
    except PeerError as error:
        raise ValueError(f"{text!r}: {error.detail}") from error


def home_option(role: str) -> Any:
    """Return the option that names an agent's home."""
    return typer.Option(
        "--home",
        envvar=f"ECASH_{role.upper()}_HOME",
        help=f"The {role}'s folder.",
        file_okay=False,
    )


def default_home(role: str) -> Path:
    """Return where an agent lives unless told otherwise."""
    return Path("~/.ecash").expanduser() / role


def passphrase(*, new: bool = False) -> str:
    """Return the wallet's passphrase, from ECASH_PASSPHRASE or the keyboard.

    Raises:
        ValueError: if there is neither.
    """
    given = os.environ.get("ECASH_PASSPHRASE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise ValueError("the wallet is locked: set ECASH_PASSPHRASE, or run the command in a terminal")
    typed: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return typed
