"""Cases: what a suite asks of an implementation, each with the sentence of the specification that it checks."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, NoReturn, Self, TypeVar

_Subject = TypeVar("_Subject")
PATIENCE_S: Final = 120.0
"""How long a case may take unless it says otherwise."""


class Failed(Exception):
    """The implementation did something else than the specification says."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


class Skipped(Exception):
    """The case cannot be run here; the text says what it lacks."""


class Case(NamedTuple, Generic[_Subject]):
    """One thing that is checked.

    Attributes:
        id: such as `withdraw.twice`; it does not change between releases.
        section: of `docs/protocol.md`, such as `9.2`.
        sentence: what the implementation must do.
        check: raises `Failed`, or `Skipped`, or returns.
        patience_s: how long it may take, in seconds.
    """

    id: str
    section: str
    sentence: str
    check: Callable[[_Subject], Awaitable[None]]
    patience_s: float = PATIENCE_S


class Suite(Generic[_Subject]):
    """The cases of one role, in the order in which they are run: some of them stand on what earlier ones did."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.cases: list[Case[_Subject]] = []

    @classmethod
    def joined(cls, role: str, *parts: "Suite[_Subject]") -> Self:
        """Return the suite of all cases of these, in order."""
        whole = cls(role)
        for part in parts:
            for case in part.cases:
                whole.add(case)
        return whole

    def case(
        self, name: str, section: str, sentence: str, patience_s: float = PATIENCE_S
    ) -> Callable[[Callable[[_Subject], Awaitable[None]]], Callable[[_Subject], Awaitable[None]]]:
        """Enter the decorated function as a case."""

        def enter(check: Callable[[_Subject], Awaitable[None]]) -> Callable[[_Subject], Awaitable[None]]:
            self.add(Case(name, section, sentence, check, patience_s))
            return check

        return enter

    def add(self, case: Case[_Subject]) -> None:
        """Enter a case.

        Raises:
            ValueError: if another one has its id.
        """
        if any(one.id == case.id for one in self.cases):
            raise ValueError(f"two cases are called {case.id}")
        self.cases.append(case)

    def chosen(self, only: Iterable[str]) -> list[Case[_Subject]]:
        """Return the cases that are asked for: by section (`§9`, `9.2`) or by how the id begins; all, if none is.

        Raises:
            ValueError: if nothing is called so.
        """
        wanted = [text.strip().removeprefix("§") for text in only]
        for text in wanted:
            if not any(_meant(text, case) for case in self.cases):
                raise ValueError(f"there is no section and no case {text!r}: --list shows what there is")
        return [case for case in self.cases if not wanted or any(_meant(text, case) for text in wanted)]


def _meant(text: str, case: Case[_Subject]) -> bool:
    if re.fullmatch(r"[0-9.]+", text):
        return f"{case.section}.".startswith(f"{text.rstrip('.')}.")
    return bool(text) and case.id.startswith(text)


@dataclass
class Notes:
    """What was sent, expected and seen in the case that runs; the report shows it."""

    sent: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Forget everything: the next case begins."""
        for lines in (self.sent, self.expected, self.came):
            lines.clear()

    def tell(self, sent: str) -> None:
        """Note what is sent."""
        self.sent.append(sent)

    def fail(self, expected: str, came: str) -> NoReturn:
        """Note what should have come, and end the case.

        Raises:
            Failed: always.
        """
        self.expected.append(expected)
        self.came.append(came)
        raise Failed(expected, came)

    def check(self, expected: str, *, holds: bool, came: str) -> None:
        """Note what was expected and what came, and end the case unless it holds.

        Raises:
            Failed: if it does not hold.
        """
        if not holds:
            self.fail(expected, came)
        self.expected.append(expected)
        self.came.append(came)

    def same(self, what: str, expected: object, came: object) -> None:
        """As `check`, that two values are equal; bytes are shown in hexadecimal, by their beginning."""
        self.check(f"{what} {shown(expected)}", holds=expected == came, came=shown(came))


def shown(value: object) -> str:
    """Return a value for a report, in a few words."""
    if isinstance(value, bytes):
        return f"{value.hex()[:32] or 'nothing'}{'…' if len(value) > 16 else ''} ({len(value)} bytes)"
    text = str(value) or "nothing"
    return text if len(text) <= 200 else f"{text[:200]}…"
