"""Write the generated parts of `docs/protocol.md` from the code: `python -m docs.generate`.

They stand between `<!-- generated: NAME -->` and `<!-- /generated -->`.
"""

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec
import msgspec.inspect as shape

from protocol import (
    answer,
    coins,
    commission,
    envelope,
    exchange,
    keyset,
    messages,
    payment_link,
    payout,
    proof,
    recovery,
    token,
    topics,
    totals,
)
from protocol.bank import account as bank_account
from protocol.bank import deposit as bank_deposit
from protocol.bank import exchange as bank_exchange
from protocol.bank import inquiry as bank_inquiry
from protocol.bank import payout as bank_payout
from protocol.bank import proof as bank_proof
from protocol.bank import recovery as bank_recovery
from protocol.bank import redemption as bank_redemption
from protocol.bank import refund as bank_refund
from protocol.bank import withdrawal as bank_withdrawal
from protocol.codec import Message
from protocol.machine import Event, State
from protocol.merchant import deposit as merchant_deposit
from protocol.merchant import payout as merchant_payout
from protocol.merchant import refund as merchant_refund
from protocol.merchant import sale as merchant_sale
from protocol.refusals import TABLE, Refusal
from protocol.signatures import Domain
from protocol.wallet import exchange as wallet_exchange
from protocol.wallet import payment as wallet_payment
from protocol.wallet import redemption as wallet_redemption
from protocol.wallet import refund as wallet_refund
from protocol.wallet import transfer as wallet_transfer
from protocol.wallet import withdrawal as wallet_withdrawal

from .fields import MEANINGS

PAGE: Final = Path(__file__).with_name("protocol.md")

MACHINES: Final[Mapping[str, ModuleType]] = {
    "wallet withdrawal": wallet_withdrawal,
    "wallet payment": wallet_payment,
    "merchant sale": merchant_sale,
    "merchant deposit": merchant_deposit,
    "bank account": bank_account,
    "bank withdrawal": bank_withdrawal,
    "bank deposit": bank_deposit,
    "bank inquiry": bank_inquiry,
    "wallet exchange": wallet_exchange,
    "bank exchange": bank_exchange,
    "wallet refund": wallet_refund,
    "merchant refund": merchant_refund,
    "bank refund": bank_refund,
    "bank recovery": bank_recovery,
    "wallet redemption": wallet_redemption,
    "bank redemption": bank_redemption,
    "bank proof": bank_proof,
    "merchant payout": merchant_payout,
    "bank payout": bank_payout,
    "wallet transfer": wallet_transfer,
}
MODULES: Final = (
    envelope,
    answer,
    coins,
    keyset,
    commission,
    messages,
    exchange,
    recovery,
    proof,
    payout,
    totals,
    token,
    payment_link,
)
"""Where the messages stand, in the order of the page."""

_SIGNED: Final = {
    Domain.KEYSET: ("bank, identity key", "encoded `Keyset`"),
    Domain.CERTIFICATE: ("bank, identity key", "encoded `Certificate`"),
    Domain.CATALOG: ("merchant", "encoded `Catalog`"),
    Domain.REQUEST: ("account holder or merchant", "recipient key id (16), encoded `Letter`"),
    Domain.ANSWER: ("bank, identity key; merchant", "request hash (32), encoded `Answer`"),
    Domain.PAYREQ: ("merchant", "encoded `Payreq`"),
    Domain.SPEND: ("coin", "denomination id (32), digest (32) of what it is spent on"),
    Domain.INQUIRY: ("coin", "payment digest (32), request id (16)"),
    Domain.VERDICT: ("bank, identity key", "encoded `Verdict`"),
    Domain.RECEIPT: ("merchant", "encoded `Receipt`"),
    Domain.PROOF: ("bank, identity key", "encoded `PaymentProof`"),
    Domain.TOTALS: ("bank, identity key", "encoded `Totals`"),
}


def first_paragraph(thing: type) -> str:
    """Return what a docstring says before its first section."""
    text = inspect.cleandoc(thing.__doc__ or "").split("\n\nAttributes:")[0].split("\n\nRaises:")[0]
    return " ".join(text.split())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; a bar in a cell is escaped."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def diagram(machine: ModuleType) -> str:
    """Return a machine's diagram, and what its states and events mean.

    A state without an arrow to another one is final; what it ignores (arrows to itself) is not drawn.
    """
    labels: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    states: dict[type[State], None] = {}
    events: dict[type[Event], None] = {}
    leaving = set()
    for (state, event), targets in machine.TRANSITIONS.items():
        events[event] = None
        states[state] = None
        for target in sorted(targets, key=lambda kind: kind.__name__):
            states[target] = None
            labels[state.__name__, target.__name__].append(event.__name__)
            if target is not state:
                leaving.add(state)
    finals = [state.__name__ for state in states if state not in leaving]
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> New"]
    for (source, goal), names in labels.items():
        if source not in finals:
            lines.append(f"    {source} --> {goal}: {', '.join(names)}")
    lines += [f"    {name} --> [*]" for name in finals] + ["```"]
    meanings = [(f"`{kind.__name__}`", first_paragraph(kind)) for kind in states]
    happenings = [(f"`{kind.__name__}`", first_paragraph(kind)) for kind in events]
    return "\n\n".join(
        ["\n".join(lines), table(("State", "Meaning"), meanings), table(("Event", "Meaning"), happenings)]
    )


def _bounds(least: int | None, most: int | None) -> str:
    if most is None:
        return f"{least:,} or more" if least else ""
    if least == most:
        return f"{most:,}"
    return f"{least:,} to {most:,}" if least else f"at most {most:,}"


def _number(value: int) -> str:
    return "2^53 − 1" if value == 2**53 - 1 else "2^31 − 1" if value == 2**31 - 1 else f"{value:,}"


def type_name(kind: shape.Type) -> str:
    """Return a type and its bounds in words."""
    match kind:
        case shape.BoolType():
            return "boolean"
        case shape.IntType(ge=int(least), le=int(most)):
            return f"integer, {_number(least)} … {_number(most)}"
        case shape.IntType():
            return "integer"
        case shape.StrType(pattern=str(pattern)):
            return f"text, `{pattern.removeprefix('^').removesuffix(chr(92) + 'Z')}`"
        case shape.StrType():
            return ", ".join(filter(None, ("text", _bounds(kind.min_length, kind.max_length))))
        case shape.BytesType():
            return ", ".join(filter(None, ("bytes", _bounds(kind.min_length, kind.max_length))))
        case shape.VarTupleType():
            length = _bounds(kind.min_length, kind.max_length)
            return (
                f"array, {length}, of {type_name(kind.item_type)}"
                if length
                else f"array of {type_name(kind.item_type)}"
            )
        case shape.StructType():
            return f"`{kind.cls.__name__}`"
    raise TypeError(kind)


def message_kinds() -> list[type[msgspec.Struct]]:
    """Return every message that travels, in the order of the page."""
    return [
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and (issubclass(kind, Message) or kind is commission.Commission)
    ]


def message_name(kind: type[msgspec.Struct]) -> str:
    """Return how the page calls a message."""
    return kind.__name__.lstrip("_")


def _commission_bounds(field: str) -> str:
    return f"integer, 0 … {_number(commission.PARTS if field == 'rate_ppm' else 2**53 - 1)}"


def fields_of(kind: type[msgspec.Struct]) -> str:
    """Return a message's fields in their order, with types, bounds and meaning."""
    info = shape.type_info(kind)
    if not isinstance(info, shape.StructType):
        raise TypeError(kind)
    name = message_name(kind)
    rows = []
    for number, field in enumerate(info.fields):
        bounds = _commission_bounds(field.name) if kind is commission.Commission else type_name(field.type)
        meaning = MEANINGS.get(f"{name}.{field.name}") or MEANINGS[field.name]
        rows.append((str(number), f"`{field.name}`", bounds, meaning))
    summary = first_paragraph(kind) or "What is sealed: the encoded bytes and the signature over them."
    return f"#### {name}\n\n{summary}\n\n" + table(("#", "Field", "Type", "Meaning"), rows)


def all_fields() -> str:
    """Return the fields of every message."""
    return "\n\n".join(fields_of(kind) for kind in message_kinds())


def refusals() -> str:
    """Return the table of refusal codes."""
    rows = [(str(i), f"`{code}`", TABLE[code].advice, TABLE[code].meaning) for i, code in enumerate(Refusal, 1)]
    return table(("#", "Code", "Advice", "Meaning"), rows)


def domains() -> str:
    """Return what is signed in which domain."""
    rows = [(f"`{domain}`", *_SIGNED[domain]) for domain in Domain]
    return table(("Domain", "Signer", "Parts"), rows)


def spoken_kinds() -> set[str]:
    """Return the kinds of request that this version has a message for."""
    starts = (re.match(r"Kind `([a-z]+)`", first_paragraph(kind)) for kind in message_kinds())
    return {start[1] for start in starts if start is not None}


def topic_forms() -> str:
    """Return the topics with who publishes and who listens, and the kinds of requests."""
    to_bank = str(topics.BankRequest("<bank>", 255, "<kind>", "<client>")).replace("255", "<lane>")
    announced = "bank or merchant"
    rows = [
        (str(topics.Announcement("<bank>", "keys")), "yes", "bank", "`SignedKeyset`"),
        (str(topics.Announcement("<name>", "status")), "yes", announced, "`Status`; also the last will"),
        (str(topics.Announcement("<bank>", "totals")), "yes", "bank", "`Signed` `Totals`"),
        (str(topics.Announcement("<merchant>", "catalog")), "yes", "merchant", "`Signed` `Catalog`"),
        (to_bank, "no", "requester", "envelope with a letter (§3.6)"),
        (
            str(topics.MerchantRequest("<merchant>", "<kind>", "<client>")),
            "no",
            "requester",
            "envelope with a letter (§3.6)",
        ),
        (str(topics.Reply("<client>", "<sender>")), "no", announced, "sealed answer (§3.6)"),
        (
            str(topics.Inbox("<client>", "<sender>")),
            "no",
            "wallet",
            "sealed token, or its acknowledgement (§25)",
        ),
    ]
    spoken = spoken_kinds()
    kinds = [
        (receiver, _kind_list(known & spoken))
        for receiver, known in (("bank", topics.BANK_KINDS), ("merchant", topics.MERCHANT_KINDS))
    ]
    return "\n\n".join(
        [
            table(("Topic", "Retained", "Publisher", "Payload"), [(f"`{form}`", *rest) for form, *rest in rows]),
            table(("Receiver", "Kinds"), kinds),
        ]
    )


def _kind_list(kinds: Iterable[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in sorted(kinds))


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    **{name: partial(diagram, machine) for name, machine in MACHINES.items()},
    "domains": domains,
    "topics": topic_forms,
    "refusals": refusals,
    "fields": all_fields,
}

_PART: Final = re.compile(r"(<!-- generated: (?P<name>[a-z ]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def names_in(page: str) -> list[str]:
    """Return the names of the generated parts of a page, in order."""
    return [match["name"] for match in _PART.finditer(page)]


def regenerate(page: str) -> str:
    """Return a page with its generated parts written anew; raise KeyError for a part of unknown name."""
    return _PART.sub(lambda match: f"{match[1]}\n{PARTS[match['name']]()}\n\n{match[3]}", page)


def main() -> None:
    """Write the page."""
    PAGE.write_text(regenerate(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
