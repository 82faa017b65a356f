"""`ecash bank keys | rotate | revoke`: the denomination keys, their dates, and the keysets that announce them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from protocol.keyset import Denomination, Keyset, read_keyset
from protocol.money import format_minor, parse_amount

from ..home import locked
from ..terminal import JsonFlag, default_home, home_option, out, print_json, run, table, told
from ..world import SystemClock, SystemEntropy
from .home import DAY_MS, settings_of
from .rotation import announcement_of, forget_keys, rotate
from .service import announcements_in, open_books

_HOME: Final = default_home("bank")
_LEAST_DIGITS: Final = 8
Home = Annotated[Path, home_option("bank")]


class Change(NamedTuple):
    """A keyset that was entered in the books, after another; and how many private keys went with that."""

    before: Keyset
    after: Keyset
    deleted: int


async def _keysets(home: Path) -> list[Keyset]:
    async with open_books(home, SystemClock()) as books:
        return [read_keyset(data) for data in await announcements_in(home, books)]


async def _enter(home: Path, keyset: Keyset, data: bytes) -> None:
    async with open_books(home, SystemClock()) as books:
        await books.add_keyset(keyset.number, data)


def _change(home: Path, make: Callable[[Keyset], Keyset]) -> Change:
    """Make a keyset that follows the newest one, and enter it in the books, from where a running bank announces it."""
    settings_of(home)
    with locked(home / "keys"):
        keysets = run(_keysets(home))
        with out.status("Making keys …"):
            after = make(keysets[-1])
        run(_enter(home, after, announcement_of(home, keysets[-1], after)))
        return Change(keysets[-1], after, forget_keys(home, [*keysets, after], SystemClock().now()))


def state_of(denomination: Denomination, now: int, *, revoked: bool) -> str:
    """Return what may be done with coins of a denomination now, in a word."""
    if revoked:
        return "revoked"
    if now < denomination.mint_from:
        return "announced"
    for until, state in (
        (denomination.mint_until, "minted"),
        (denomination.spend_until, "spendable"),
        (denomination.redeem_until, "redeemable"),
    ):
        if now < until:
            return state
    return "expired"


def _as_json(denomination: Denomination, state: str) -> dict[str, Any]:
    names = ("currency", "value", "mint_from", "mint_until", "spend_until", "redeem_until")
    return {"id": denomination.id.hex(), "state": state} | {name: getattr(denomination, name) for name in names}


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


@told
def keys(home: Home = _HOME, as_json: JsonFlag = False) -> None:
    """Show the denomination keys of the newest keyset, their dates and states.

    Example: ecash bank keys
    """
    keyset, now = run(_keysets(home))[-1], SystemClock().now()
    rows = [
        (d, state_of(d, now, revoked=d.id in keyset.revoked))
        for d in sorted(keyset.denominations, key=lambda d: (d.mint_from, d.currency, d.value))
    ]
    if as_json:
        shown = [_as_json(d, state) for d, state in rows]
        print_json({"keyset": keyset.number, "hash": keyset.hash.hex(), "denominations": shown})
        return
    out.print(f"Keyset {keyset.number}, {keyset.hash.hex()[:16]}…")
    listed = table("id", "value", "state", "mint from", "mint until", "spend until", "redeem until", right=[1])
    for d, state in rows:
        dates = (d.mint_from, d.mint_until, d.spend_until, d.redeem_until)
        listed.add_row(d.id.hex()[:12], format_minor(d.value, d.currency), state, *map(_day, dates))
    out.print(listed)


@told
def rotate_keys(
    in_days: Annotated[int, typer.Option(min=0, max=3650, help="Days from now until the new keys sign coins.")] = 0,
    envelope: Annotated[bool, typer.Option("--envelope", help="Make a new key for sealed requests, too.")] = False,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Begin a new epoch: new keys for all values, and the commission and limits that bank.toml names now.

    The old keys go on until their own dates, which never move. A running bank announces the new keyset within a
    second; wallets and merchants follow.

    Example: ecash bank rotate --in-days 7
    """

    def make(known: Keyset) -> Keyset:
        now = SystemClock().now()
        return rotate(
            home,
            known,
            now,
            settings_of(home),
            mint_from=now + in_days * DAY_MS,
            envelope=SystemEntropy() if envelope else None,
        )

    _tell(_change(home, make), as_json=as_json)


@told
def revoke(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of denominations, or how they begin.")] = None,
    value: Annotated[str, typer.Option(help="All keys of this value, such as 0.64.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: Home = _HOME,
    as_json: JsonFlag = False,
) -> None:
    """Revoke stolen keys for ever: coins under them are taken in no payment any more.

    New keys for the same values are announced with it. Whoever withdrew coins under a revoked key can redeem them into
    the account, up to what it has withdrawn.

    Example: ecash bank revoke --value 0.64
    """
    settings, known = settings_of(home), run(_keysets(home))[-1]
    chosen = chosen_keys(known, ids or [], parse_amount(value, settings.currency).value if value else 0)
    if not yes:
        typer.confirm(f"Revoke {len(chosen)} keys for ever?", abort=True, err=True)
    change = _change(home, lambda newest: rotate(home, newest, SystemClock().now(), settings_of(home), revoked=chosen))
    _tell(change, as_json=as_json)


def chosen_keys(known: Keyset, ids: Sequence[str], value: int) -> list[bytes]:
    """Return the ids of the keys that somebody names, revoked ones left out.

    Args:
        known: the newest keyset.
        ids: how ids begin, in hexadecimal.
        value: of all keys of this value, in minor units; 0 for none.

    Raises:
        ValueError: if something that is named is no key, or too short, or nothing is named.
    """
    sound = [d for d in known.denominations if d.id not in known.revoked]
    chosen = {d.id for d in sound if d.value == value}
    for text in ids:
        begun = {d.id for d in sound if d.id.hex().startswith(text.lower())}
        if len(text) < _LEAST_DIGITS or not begun:
            raise ValueError(
                f"{text!r}: type at least {_LEAST_DIGITS} digits of an id that `ecash bank keys` shows, not revoked"
            )
        chosen |= begun
    if not chosen:
        raise ValueError("name keys by their ids (`ecash bank keys` shows them), or by --value one that they have")
    return sorted(chosen)


def _tell(change: Change, *, as_json: bool) -> None:
    old = {d.id for d in change.before.denominations}
    new = [d for d in change.after.denominations if d.id not in old]
    revoked = change.after.revoked[len(change.before.revoked) :]
    if as_json:
        print_json(
            {
                "keyset": change.after.number,
                "new": [d.id.hex() for d in new],
                "revoked": [key.hex() for key in revoked],
                "private_keys_deleted": change.deleted,
            }
        )
        return
    out.print(f"Keyset {change.after.number} has {_keys(len(new), 'new key')}. A running bank announces it now.")
    if revoked:
        out.print(f"Revoked for ever: {_keys(len(revoked))}.")
    if change.deleted:
        out.print(f"Deleted, because nothing more is signed with it: {_keys(change.deleted, 'private key')}.")


def _keys(count: int, what: str = "key") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
