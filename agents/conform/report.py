"""The report: a table by section for people, JUnit XML for machines."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as Xml

from rich.markup import escape
from rich.table import Table

from ..terminal import out, table
from .case import Case
from .runner import Outcome, Result

_COLOURS: Final = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "yellow"}


def listing(cases: Iterable[Case[Any]]) -> Table:
    """Return the cases as a table."""
    made = table("§", "case", "what it checks")
    for case in cases:
        made.add_row(case.section, case.id, escape(case.sentence))
    return made


def line(result: Result) -> str:
    """Return a result as a line of marked-up text."""
    colour = _COLOURS[result.outcome]
    told = f" ({escape(result.reason)})" if result.reason else ""
    return f"[{colour}]{result.outcome.value:<7}[/] §{result.case.section:<5} {result.case.id}{told}"


def summary(results: Sequence[Result]) -> Table:
    """Return how many cases of each section have passed, failed, and were skipped."""
    made = table("§", "passed", "failed", "skipped", right=(1, 2, 3))
    counted: dict[str, Counter[Outcome]] = {}
    for result in results:
        counted.setdefault(result.case.section, Counter())[result.outcome] += 1
    for section in sorted(counted, key=_numbers):
        made.add_row(section, *(str(counted[section][outcome]) for outcome in Outcome))
    total = Counter(result.outcome for result in results)
    made.add_row("[bold]all[/]", *(f"[bold]{total[outcome]}[/]" for outcome in Outcome))
    return made


def _numbers(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))


def tell_failures(results: Iterable[Result]) -> None:
    """Print of each failure the sentence, what was sent, what should have come, and what came."""
    for result in results:
        if result.outcome is not Outcome.FAILED:
            continue
        out.print(f"\n[bold red]{result.case.id}[/], §{result.case.section}: {escape(result.case.sentence)}")
        for what, lines in (("sent", result.sent), ("expected", result.expected), ("came", result.came)):
            for one in lines:
                out.print(f"  {what:<8} {escape(one)}", soft_wrap=True)
        out.print(f"  {escape(result.reason)}", soft_wrap=True)


def tell_unreachable(codes: Mapping[str, str]) -> None:
    """Print the refusal codes that no case can bring about from outside, each with the reason."""
    made = table("code", "why no case asks for it")
    for code, reason in codes.items():
        made.add_row(code, escape(reason))
    out.print(made)


def junit(role: str, results: Sequence[Result]) -> bytes:
    """Return the results as JUnit XML: a test suite for each section."""
    root = Xml.Element("testsuites", name=f"ecash conform {role}")
    for section in sorted({result.case.section for result in results}, key=_numbers):
        chosen = [result for result in results if result.case.section == section]
        count = Counter(result.outcome for result in chosen)
        suite = Xml.SubElement(
            root,
            "testsuite",
            name=f"§{section}",
            tests=str(len(chosen)),
            failures=str(count[Outcome.FAILED]),
            skipped=str(count[Outcome.SKIPPED]),
            errors="0",
            time=f"{sum(result.seconds for result in chosen):.3f}",
        )
        for result in chosen:
            _enter(suite, role, result)
    Xml.indent(root)
    written: bytes = Xml.tostring(root, "utf-8", xml_declaration=True)
    return written


def _enter(suite: Xml.Element, role: str, result: Result) -> None:
    name = f"{role}.{result.case.section}"
    one = Xml.SubElement(suite, "testcase", classname=name, name=result.case.id, time=f"{result.seconds:.3f}")
    story = "\n".join(
        [result.case.sentence]
        + [f"sent: {text}" for text in result.sent]
        + [f"expected: {text}" for text in result.expected]
        + [f"came: {text}" for text in result.came]
    )
    if result.outcome is Outcome.FAILED:
        Xml.SubElement(one, "failure", message=_plain(result.reason)).text = _plain(story)
    elif result.outcome is Outcome.SKIPPED:
        Xml.SubElement(one, "skipped", message=_plain(result.reason))
    else:
        Xml.SubElement(one, "system-out").text = _plain(story)


def _plain(text: str) -> str:
    """Return text that may stand in XML 1.0, which has no control characters: it may hold what a stranger wrote."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def write_junit(path: Path, role: str, results: Sequence[Result]) -> None:
    """Write the results as JUnit XML."""
    path.write_bytes(junit(role, results))
