"""Cases, their running, and the report."""

import asyncio
import re
from xml.etree import ElementTree as Xml

import pytest

from agents.conform.bank.cases import bank_suite
from agents.conform.bank.unreachable import UNREACHABLE
from agents.conform.case import Failed, Notes, Skipped, Suite
from agents.conform.merchant.cases import UNREACHABLE as SHOP_UNREACHABLE
from agents.conform.merchant.cases import merchant_suite
from agents.conform.report import junit, line
from agents.conform.runner import Outcome, Result, run_cases
from agents.conform.wallet.cases import wallet_suite
from protocol.errors import PeerError
from protocol.refusals import Refusal
from tests.test_tidy import PAGE, ROOT

SUITES = (bank_suite(), merchant_suite(), wallet_suite())
suite = Suite[Notes]("toy")


@suite.case("one.good", "9.1", "Good is good.")
async def _good(notes: Notes) -> None:
    notes.tell("something")
    notes.same("the number", 1, 1)


@suite.case("one.bad", "9.2", "Bad is bad.")
async def _bad(notes: Notes) -> None:
    notes.tell("a bell: \7")
    notes.same("the bytes", bytes(20), b"\1")


@suite.case("two.away", "10.1", "What cannot be tried is skipped.")
async def _away(notes: Notes) -> None:
    raise Skipped("it has no key")


@suite.case("two.strange", "10.2", "What does not hold is a failure, too.")
async def _strange(notes: Notes) -> None:
    raise PeerError(Refusal.BAD_SIGNATURE, "whose is it?")


@suite.case("two.slow", "1", "What never ends is a failure.", patience_s=0)
async def _slow(notes: Notes) -> None:
    await asyncio.Event().wait()


async def results() -> list[Result]:
    notes, told = Notes(), list[Result]()
    found = await run_cases(suite.cases, notes, notes, told.append)
    assert told == found
    return found


async def test_each_case_has_its_outcome_and_none_ends_the_run() -> None:
    outcomes = [result.outcome for result in await results()]
    assert outcomes == [Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.FAILED, Outcome.FAILED]


async def test_a_result_tells_what_was_sent_expected_and_seen() -> None:
    good, bad, away, strange, slow = await results()
    assert (good.sent, good.expected, good.came) == (("something",), ("the number 1",), ("1",))
    assert bad.expected[0].startswith("the bytes 000")
    assert bad.came == ("01 (1 bytes)",)
    assert [one.reason for one in (away, strange)] == ["it has no key", "bad_signature: whose is it?"]
    assert "0 seconds" in slow.reason
    assert "§9.2" in line(bad)


async def test_the_xml_has_a_suite_for_each_section_and_counts_what_failed() -> None:
    root = Xml.fromstring(junit("toy", await results()))
    suites = {one.get("name"): (one.get("tests"), one.get("failures"), one.get("skipped")) for one in root}
    assert suites == {
        "§1": ("1", "1", "0"),
        "§9.1": ("1", "0", "0"),
        "§9.2": ("1", "1", "0"),
        "§10.1": ("1", "0", "1"),
        "§10.2": ("1", "1", "0"),
    }
    (failure,) = [one for one in root.iter("failure") if "bytes" in str(one.get("message"))]
    assert "sent: a bell: \ufffd" in str(failure.text)


@pytest.mark.parametrize(
    ("only", "count"),
    [([], 5), (["§9"], 2), (["9.2"], 1), (["§1"], 1), (["10."], 2), (["one"], 2), (["one.bad", "§10.1"], 2)],
)
def test_cases_are_chosen_by_section_or_by_the_beginning_of_their_ids(only: list[str], count: int) -> None:
    assert len(suite.chosen(only)) == count


@pytest.mark.parametrize("only", ["§77", "nothing", ""])
def test_what_is_not_there_cannot_be_chosen(only: str) -> None:
    with pytest.raises(ValueError, match="no section"):
        suite.chosen([only])


def test_two_cases_cannot_have_one_id() -> None:
    with pytest.raises(ValueError, match=r"one\.good"):
        Suite[Notes].joined("twice", suite, suite)


def test_a_check_that_does_not_hold_raises_what_was_expected() -> None:
    with pytest.raises(Failed, match="expected peace; came war") as caught:
        Notes().check("peace", holds=False, came="war")
    assert (caught.value.expected, caught.value.came) == ("peace", "war")


def test_every_case_names_a_section_that_the_specification_has() -> None:
    sections = set(re.findall(r"^#{2,3} ([0-9.]+) ", PAGE.read_text(), re.MULTILINE))
    named = {case.section for one in SUITES for case in one.cases}
    assert named <= sections


def test_every_refusal_of_a_bank_is_asked_for_or_named_as_out_of_reach() -> None:
    folder = ROOT / "agents" / "conform" / "bank"
    text = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "unreachable.py")
    asked = {code for code in Refusal if f"Refusal.{code.name}" in text}
    assert asked | set(UNREACHABLE) == set(Refusal)
    assert asked.isdisjoint(UNREACHABLE)


def test_every_refusal_of_a_merchant_is_asked_for_or_a_banks_or_out_of_reach() -> None:
    folder = ROOT / "agents" / "conform" / "merchant"
    text = "".join(path.read_text() for path in folder.glob("*.py") if path.name != "cases.py")
    asked = {code for code in Refusal if f"Refusal.{code.name}" in text}
    merchants = set(UNREACHABLE) - {Refusal.FOREIGN_KEYSET, Refusal.KEY_OVERDRAWN}
    assert merchants <= asked | set(SHOP_UNREACHABLE)
