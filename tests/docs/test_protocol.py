"""The specification is complete, and its generated parts are current."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import protocol
from agents.client import store
from agents.client.recover import GAP
from docs import generate
from docs.fields import MEANINGS
from protocol.bank import ledger
from protocol.derivation import Root
from protocol.keyset import KeyRing, Tariff
from protocol.messages import MAX_SETTLED
from protocol.payout import MAX_PAYOUTS, PayoutStatus
from protocol.recovery import KEPT_WITHDRAWALS, MAX_SPENDINGS
from protocol.refusals import TABLE, Advice, Refusal
from protocol.signatures import Domain
from protocol.topics import BANK_KINDS, MERCHANT_KINDS
from protocol.wallet.refund import MARGIN_MS
from tests.shapes import fields, message_types

PAGE: Final = generate.PAGE.read_text("utf-8")


def modules() -> Iterator[ModuleType]:
    for module in pkgutil.walk_packages(protocol.__path__, "protocol."):
        yield importlib.import_module(module.name)


def test_the_generated_parts_are_current() -> None:
    assert generate.regenerate(PAGE) == PAGE, "run: python -m docs.generate"


def test_every_part_that_can_be_generated_stands_in_the_page_once() -> None:
    assert sorted(generate.names_in(PAGE)) == sorted(generate.PARTS)


def test_a_part_of_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        generate.regenerate("<!-- generated: nothing -->\n<!-- /generated -->")


def test_every_machine_is_drawn() -> None:
    machines = [module for module in modules() if hasattr(module, "TRANSITIONS")]
    assert {module.__name__ for module in machines} == {module.__name__ for module in generate.MACHINES.values()}
    for module in machines:
        drawn = generate.diagram(module)
        assert drawn in PAGE
        names = {kind.__name__ for pair in module.TRANSITIONS for kind in pair}
        names |= {kind.__name__ for targets in module.TRANSITIONS.values() for kind in targets}
        for name in names:
            assert re.search(rf"\| `{name}` \| \S", drawn), f"{module.__name__} does not explain {name}"


def test_every_arrow_to_another_state_is_drawn() -> None:
    for module in generate.MACHINES.values():
        drawn = generate.diagram(module)
        for (state, event), targets in module.TRANSITIONS.items():
            for target in targets - {state}:
                arrow = rf"    {state.__name__} --> {target.__name__}: .*\b{event.__name__}\b"
                assert re.search(arrow, drawn), arrow


def test_every_message_stands_in_the_page_with_its_fields() -> None:
    for kind in message_types():
        described = generate.fields_of(kind)
        assert described in PAGE, kind
        for number, field in enumerate(fields(kind)):
            assert f"| {number} | `{field.name}` | " in described


def test_no_meaning_is_left_over() -> None:
    used = set()
    for kind in generate.message_kinds():
        for name in kind.__struct_fields__:
            own = f"{generate.message_name(kind)}.{name}"
            used.add(own if own in MEANINGS else name)
    assert used == set(MEANINGS)


def test_every_refusal_has_its_row() -> None:
    for number, code in enumerate(Refusal, 1):
        assert f"| {number} | `{code}` | {TABLE[code].advice} | {TABLE[code].meaning} |" in PAGE


def test_every_refusal_of_this_version_is_told_of_in_the_text() -> None:
    text = re.sub(r"<!-- generated:.*?<!-- /generated -->", "", PAGE, flags=re.DOTALL)
    for code in Refusal:
        assert f"`{code}`" in text, code


def test_every_signature_domain_has_its_row() -> None:
    for domain in Domain:
        assert re.search(rf"\| `{domain}` \| .+ \| .+ \|", PAGE), domain


def test_every_form_of_topic_and_every_kind_stands_in_the_page() -> None:
    for form in (
        "ecash/v1/<bank>/keys",
        "ecash/v1/<name>/status",
        "ecash/v1/<bank>/totals",
        "ecash/v1/<merchant>/catalog",
        "ecash/v1/<bank>/<lane>/<kind>/<client>",
        "ecash/v1/<merchant>/<kind>/<client>",
        "ecash/v1/reply/<client>/<sender>",
        "ecash/v1/inbox/<client>/<sender>",
    ):
        assert f"| `{form}` |" in PAGE
    for kind in BANK_KINDS | MERCHANT_KINDS:
        assert f"`{kind}`" in PAGE


def test_every_section_that_is_referred_to_exists() -> None:
    sections = set(re.findall(r"^#{2,3} ([0-9.]+) ", PAGE, flags=re.MULTILINE))
    assert len(sections) > 40
    assert set(re.findall(r"§([0-9]+(?:\.[0-9]+)?)", PAGE)) <= sections


def test_the_text_names_the_refusals_that_a_wallet_waits_on() -> None:
    retried = [f"`{code}`" for code in Refusal if TABLE[code].advice is Advice.RETRY]
    assert f"{' and '.join(retried)} it waits" in " ".join(PAGE.split())


def test_every_kind_of_this_version_has_its_line_and_its_messages() -> None:
    names = {generate.message_name(kind) for kind in generate.message_kinds()}
    lines = re.findall(r"\| `([a-z]+)` \| (?:bank|merchant) \| .+ \| `([A-Za-z]+)` \| `([A-Za-z]+)`.* \| §", PAGE)
    assert {kind for kind, _, _ in lines} == generate.spoken_kinds()
    assert {name for _, *pair in lines for name in pair} <= names


def test_every_label_that_the_code_hashes_or_derives_with_stands_in_the_page() -> None:
    root = Path(protocol.__file__).parent
    labels = {
        label for path in root.rglob("*.py") for label in re.findall(r'b"(ecash/v1 [a-z ]+(?:\\0)?)"', path.read_text())
    }
    assert r"ecash/v1 parcel\0" in labels
    for label in labels:
        assert f'"{label}"' in PAGE, label


def section(number: str) -> str:
    """The text of one section, its subsections included, in one line."""
    level = "#" * (2 + number.count("."))
    found = re.search(rf"^{level} {re.escape(number)} .*?(?=^#{{2,{len(level)}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, number
    return " ".join(found[0].split())


def test_every_secret_that_is_derived_has_its_row() -> None:
    names = set(re.findall(r'_expand\([^"]*"([a-z ]+)"', Path(inspect.getfile(Root)).read_text()))
    rows = set(re.findall(r"\| `([a-z ]+)` \| [^|]+ \| \d+ \|", section("3.10")))
    assert "exchange id" in names
    assert names == rows


def test_every_kind_says_what_is_stored_and_what_its_deadline_means() -> None:
    for number in ("7.2", "7.4"):
        text = section(number)
        assert {kind for kind in BANK_KINDS if f"`{kind}`" not in text} == set(), number


def test_every_field_of_the_tariff_says_how_it_is_charged() -> None:
    for name in Tariff.__struct_fields__:
        assert f"| `{name}` |" in section("4.3")


def test_every_ledger_and_every_state_of_a_payout_has_its_entries() -> None:
    text = section("17")
    for name in ("account", "coins", ledger.CASH, ledger.CLEARING, ledger.COMMISSION):
        assert f"`{name}/<" in text
    states = re.findall(r"[a-z]+", str(PayoutStatus.__annotations__["state"].__metadata__[0].pattern))
    assert {"queued", "returned"} <= set(states)
    for state in states:
        assert state in text
        assert f"| `{state}` |" in section("23")


def test_every_state_of_a_coin_has_its_row() -> None:
    for state in (store.FREE, store.RESERVED, store.SPENT, store.ASIDE, store.UNVERIFIED):
        assert f"| *{state}* |" in section("29")


def test_every_use_of_a_denomination_has_its_row() -> None:
    uses = {name for name in vars(KeyRing) if name.endswith("able")}
    assert uses == {"spendable", "exchangeable", "redeemable", "mintable"}
    for use in ("minted", *uses - {"mintable"}):
        assert f"| *{use}*" in section("5.2")


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"the last {KEPT_WITHDRAWALS} withdrawals" in section("21.1")
    assert f"until {GAP} in a row are unknown" in section("21.2")
    assert f"if they are at most {MAX_SPENDINGS}" in section("21.3")
    assert f"from {MARGIN_MS // 60_000} minutes after the ticket's deadline" in section("20.4")
    assert f"the last {MAX_PAYOUTS} payouts" in section("23")
    assert f"at most {MAX_SETTLED} request ids" in section("9.1")


def test_every_decision_is_listed_under_its_title() -> None:
    folder = generate.PAGE.parent / "adr"
    listed = (folder / "README.md").read_text("utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text("utf-8")
        title = text.splitlines()[0].removeprefix(f"# {record.name[:4]} · ")
        assert f"| [{record.name[:4]}]({record.name}) | {title} |" in listed
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE)[:2] == ["Context", "Decision"]
