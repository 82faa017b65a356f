"""The specification is complete, and its generated parts are current."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import protocol
from docs import generate
from docs.fields import MEANINGS
from protocol.bank.deposit import Examined
from protocol.refusals import TABLE, Advice, Refusal
from protocol.signatures import Domain
from protocol.topics import BANK_KINDS, MERCHANT_KINDS
from tests.shapes import fields, message_types

PAGE: Final = generate.PAGE.read_text("utf-8")
INTERNAL: Final = {Examined}
"""Messages that stay inside the bank."""


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
        if kind in INTERNAL:
            continue
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
        "ecash/v1/<merchant>/catalog",
        "ecash/v1/<bank>/<lane>/<kind>/<client>",
        "ecash/v1/<merchant>/<kind>/<client>",
        "ecash/v1/reply/<client>/<sender>",
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
