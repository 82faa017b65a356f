"""What anybody can check without an account: `ecash verify` a proof of payment, `ecash audit` a bank's totals."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer

from broker.mqtt import MqttLink
from broker.port import Link
from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Keyset, fingerprint, read_keyset
from protocol.messages import Signed
from protocol.money import format_minor
from protocol.totals import Totals, check_growth, open_totals, sums

from .address import BankAddress
from .home import write_secret
from .keysets import accept
from .proof import Checked, check_proof, read_proof
from .proof import as_json as proof_as_json
from .requester import asking
from .terminal import JsonFlag, LogLevel, out, print_json, run, table, told
from .world import SystemEntropy

_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999, the last that can be written."""


def _moment(at: int) -> str:
    return datetime.fromtimestamp(min(at, _LAST_MS) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@told
def verify(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="A proof: `ecash wallet prove … --out FILE` makes one.")],
    bank: Annotated[
        str, typer.Option(envvar="ECASH_BANK", help="The bank's address as you know it: ecash://… It pins its key.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Check a proof of payment, without asking anybody; exit code 1 if something in it does not hold.

    Example: ecash verify proof.json --bank "ecash://bank@127.0.0.1:1883#61357e…"
    """
    checked = check_proof(read_proof(file), BankAddress.parse(bank) if bank else None)
    if as_json:
        print_json(proof_as_json(checked))
        return
    _show_proof(checked)
    if checked.pinned:
        out.print("[green]Everything holds, and the key is the one that the address pins.[/]")
        return
    out.print("[green]Everything holds[/] if the bank's key has this fingerprint (compare it, or give --bank):")
    out.print(checked.fingerprint)


def _show_proof(checked: Checked) -> None:
    info = checked.info
    out.print(f"Bank {info.bank} states: [bold]{format_minor(info.amount, info.currency)}[/] was paid")
    out.print(f"  to account  {info.account}")
    out.print(f"  payment     {info.payment_id.hex()}")
    out.print(f"  accepted    {_moment(checked.accepted_at)}")
    out.print(f"  stated      {_moment(checked.stated_at)}, to somebody who knew the payer code")
    if checked.code:
        out.print(f"  payer code  {_printable(checked.code)}", markup=False, soft_wrap=True)
    for line in checked.order:
        out.print("  order       " + (_printable(line) if line is not None else "(kept back)"), markup=False)


def _printable(text: str) -> str:
    """Return what strangers wrote without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


class Seen(msgspec.Struct, frozen=True):
    """What an earlier audit saw of a bank: its announcements, as they were signed."""

    keyset: bytes
    totals: bytes


class Audited(NamedTuple):
    """A bank's totals, checked, and the keyset that they were checked against."""

    keyset: Keyset
    totals: Totals
    seen: Seen


async def look(address: BankAddress, link: Link, before: Seen | None) -> Audited:
    """Fetch a bank's keyset and totals, anonymously, and check them: against each other, and what was seen before.

    Args:
        address: the bank's.
        link: a presence that is not entered yet.
        before: what an earlier look at this bank has seen.

    Raises:
        NobodyAnswers: if they are not announced.
        PeerError: with what does not hold.
    """
    known = KeyRing(read_keyset(before.keyset)) if before else None
    async with asking(link) as requester:
        data = await requester.retained(topics.totals(address.bank))  # first: the keyset is announced before them
        announced = await requester.retained(topics.keys(address.bank))
    keyset = (await accept(address, announced, known)).keyset
    totals = open_totals(Signed.decode(data), keyset)
    if before is not None and known is not None:
        check_growth(open_totals(Signed.decode(before.totals), known.keyset), totals, keyset)
    return Audited(keyset, totals, Seen(announced, data))


def read_memory(path: Path, address: BankAddress) -> Seen | None:
    """Return what an earlier audit of this bank remembered; None if there is no file yet.

    Raises:
        ValueError: if the file is something else, or about another bank.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    try:
        seen = msgspec.msgpack.decode(data, type=Seen)
        known = read_keyset(seen.keyset)
        open_totals(Signed.decode(seen.totals), known)
    except (msgspec.MsgspecError, PeerError) as error:
        raise ValueError(f"{path} is not what an audit remembered: {error}") from error
    if (known.bank, fingerprint(known.identity)) != (address.bank, address.fingerprint):
        raise ValueError(f"{path} is about another bank, {known.bank}: name another file")
    return seen


def write_memory(path: Path, seen: Seen) -> None:
    """Remember what was seen.

    Raises:
        ValueError: if the file cannot be written.
    """
    try:
        write_secret(path, msgspec.msgpack.encode(seen))
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error


@told
def audit(
    bank: Annotated[str, typer.Option(envvar="ECASH_BANK", help="The bank's address: ecash://…")],
    memory: Annotated[
        Path | None,
        typer.Option("--memory", dir_okay=False, help="Remembers what was seen: the next audit sees what was undone."),
    ] = None,
    as_json: JsonFlag = False,
    log: LogLevel = "warning",
) -> None:
    """Check what a bank says under its signature of the e-cash that it has minted and taken back.

    Exit code 1 if something does not hold; the memory stays as it is then, for it is evidence.

    Example: ecash audit --bank "ecash://bank@127.0.0.1:1883#61357e…" --memory seen.bank
    """
    address = BankAddress.parse(bank)
    before = read_memory(memory, address) if memory else None
    link = MqttLink(address.broker, SystemEntropy().bytes(16).hex(), persistent=False)
    audited = run(look(address, link, before), log)
    if memory is not None:
        write_memory(memory, audited.seen)
    _show(audited, compared=before is not None, as_json=as_json)


def _show(audited: Audited, *, compared: bool, as_json: bool) -> None:
    keyset, totals = audited.keyset, audited.totals
    denominations = {denomination.id: denomination for denomination in keyset.denominations}
    if as_json:
        by_currency = {
            currency: {"minted": one.minted, "deposited": one.spent, "outstanding": one.outstanding}
            for currency, one in sums(totals, keyset).items()
        }
        coins = [
            {"denomination": one.denomination.hex(), "minted": one.minted, "spent": one.spent}
            for one in totals.denominations
        ]
        shown = {"bank": totals.bank, "at": totals.at, "journal": totals.journal, "keyset": keyset.number}
        print_json(shown | {"totals": by_currency, "denominations": coins, "compared": compared, "ok": True})
        return
    out.print(f"Bank {totals.bank} at {_moment(totals.at)}, journal entry {totals.journal}, keyset {keyset.number}")
    listed = table("value", "minted", "came back", "outstanding", right=range(4))
    for one in sorted(totals.denominations, key=lambda one: denominations[one.denomination].value):
        of = denominations[one.denomination]
        left = format_minor(of.value * (one.minted - one.spent), of.currency)
        listed.add_row(format_minor(of.value, of.currency), str(one.minted), str(one.spent), left)
    out.print(listed)
    for currency, total in sums(totals, keyset).items():
        out.print(
            f"[bold]{format_minor(total.outstanding, currency)}[/] outstanding: {format_minor(total.minted, currency)} "
            f"minted, {format_minor(total.spent, currency)} came back"
        )
    told_before = ", and nothing was undone since the last audit" if compared else ""
    held = f"The signature holds, no denomination came back more than it went out{told_before}."
    out.print(f"[green]{held}[/]", soft_wrap=True)
