"""`ecash bank prove`: the bank's statement that a payment was paid, written by its operator."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from protocol.bank import proof as machine
from protocol.bank.desk import New
from protocol.errors import PeerError
from protocol.proof import ProofRequest
from protocol.refusals import Refusal
from protocol.signatures import public_key

from ..home import write_secret
from ..terminal import default_home, fail, home_option, out, run, told
from ..world import SystemClock
from .home import keys_of, settings_of
from .service import open_books

_HOME: Final = default_home("bank")
Home = Annotated[Path, home_option("bank")]


@told
def prove(
    payment_id: Annotated[str, typer.Argument(help="The payment's id: 32 hex digits.")],
    salt: Annotated[str, typer.Option(help="The salt of the payer's digest: 32 hex digits.")],
    code: Annotated[str, typer.Option(help="The payer code.")],
    path: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Where to write the statement, unless to the screen.")
    ] = None,
    home: Home = _HOME,
) -> None:
    """State, signed by the bank, that a payment was paid by who knows its payer code; needs no running bank.

    The statement is a JSON object that anybody can check: bank, identity (the key that signs), proof.

    Example: ecash bank prove 0011…ff --salt ffee…00 --code "Alice, 2 May" --out proof.json
    """
    request = ProofRequest(_sixteen("payment id", payment_id), _sixteen("salt", salt), code)
    settings, identity = settings_of(home), keys_of(home).identity
    proof = run(_state(home, settings.name, identity, request))
    text = json.dumps({"bank": settings.name, "identity": public_key(identity).hex(), "proof": proof.hex()})
    if path is None:
        out.print(text, markup=False, soft_wrap=True)
        return
    try:
        write_secret(path, f"{text}\n".encode())
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
    out.print(f"The statement is in {path}.", soft_wrap=True)


async def _state(home: Path, bank: str, identity_seed: bytes, request: ProofRequest) -> bytes:
    """Return the `Signed` statement; raise PeerError (`NOT_PROVEN`) if the code does not fit."""
    clock = SystemClock()
    async with open_books(home, clock) as books:
        payments = tuple(await books.payments(request.payment_id))
    state, _ = machine.step(New(), machine.Asked(request, payments, clock.now()), bank, identity_seed)
    if not isinstance(state, machine.Proven):
        raise PeerError(Refusal.NOT_PROVEN)
    return state.proof


def _sixteen(what: str, text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise ValueError(f"a {what} has 32 hexadecimal digits")
    return value
