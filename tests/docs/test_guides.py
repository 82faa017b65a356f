"""The guides are run for real, and say what is really printed."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from _pytest.mark import ParameterSet

from docs import guides
from docs.guides import FOLDER, Step, differences, mask, play, steps, written

NAMES = sorted(path.stem for path in FOLDER.glob("*.md"))
_NEEDS = {"shop": "curl", "broker": "mosquitto"}
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
_PLAYS = "test_a_guide_says_what_is_really_printed"
PAGE = """\
# A page

```console
$ balance \\
  --json
5.00 USD
$ cat <<END
> hello
> END
hello
$ true
```

Some text, and a block that is not run:

```sh
$ rm -rf /
```
"""


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[list[str]]]]:
    """What each guide prints; all that are asked for are started at once, two at a time."""
    wanted = {name for name in NAMES if any(item.name == f"{_PLAYS}[{name}]" for item in request.session.items)}
    pool = ThreadPoolExecutor(2)
    yield {name: pool.submit(play, _scripts(name)) for name in sorted(wanted)}
    pool.shutdown(cancel_futures=True)


def _scripts(name: str) -> list[str]:
    return [step.script for step in steps((FOLDER / f"{name}.md").read_text())]


def _param(name: str) -> ParameterSet:
    program = _NEEDS.get(name, "bash")
    missing = shutil.which(program, path=_PATH) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {program} (apt install {program})"))


@pytest.mark.parametrize("name", [_param(name) for name in NAMES])
def test_a_guide_says_what_is_really_printed(name: str, played: dict[str, Future[list[str]]]) -> None:
    assert differences((FOLDER / f"{name}.md").read_text(), played[name].result()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_cleans_up_after_itself(name: str) -> None:
    scripts = _scripts(name)
    assert ". docs/guide/town.sh" in scripts[:2]
    assert scripts[-1] == "town_ends"


def test_the_steps_of_a_page_are_its_commands_and_what_they_printed() -> None:
    assert list(steps(PAGE)) == [
        Step("balance \\\n  --json", "5.00 USD\n"),
        Step("cat <<END\n> hello\n> END", "hello\n"),
        Step("true", ""),
    ]
    assert [step.script for step in steps(PAGE)][1] == "cat <<END\nhello\nEND"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Payment 1f2e3d4c.", "Payment 00aa11bb."),
        ("until 2026-11-22 18:40:01", "until 2027-01-02 03:04:05"),
        ("1f2e3d4c  2.50 USD", "1f2e3d4c   2.50 USD  "),
        ("abandon ability able about above absent absorb abstract absurd abuse access acid", "zoo " * 11 + "zone"),
        ("ecash://bank@127.0.0.1:18830#ab12", "ecash://bank@127.0.0.1:40123#cd34"),
        ("is in /tmp/ecash-town-a1B2c3/proof.json", "is in /tmp/ecash-town-zzzzzz/proof.json"),
        ("ECASH:ABCDEFGH", "ECASH:234567"),
        ("mzxw-6ytb-oi2d-qnzz", "abcd-efgh-2345-6723"),
        ("web+ecash:pay/sya2k4dsmvzx", "web+ecash:pay/sya2k4dsmvzy"),
        ("API key   sk_4ecde442", "API key   sk_00112233"),
        ("secret  whsec_qYwL/RT+eg==", "secret  whsec_AAAAAAAAA="),
        ('"2026-11-22T14:05:00.123Z"', '"2027-01-02T03:04:05.678Z"'),
        (
            "http://shop.localhost:8080/ or http://127.0.0.1:8080/",
            "http://shop.localhost:41271/ or http://127.0.0.1:4127/",
        ),
    ],
)
def test_what_differs_each_time_is_masked(one: str, other: str) -> None:
    assert mask(one) == mask(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paid 12.34 USD to Blue Note Records.", "Paid 12.35 USD to Blue Note Records."),
        ("bank: 5.00 USD free", "bank: 5.00 USD reserved"),
        ("bank   free   3   0.64 USD", "bank   free   2   0.64 USD"),
        ("Account 1001 at bank", "Account 1002 at bank"),
        ("error: the passphrase does not open this wallet", ""),
        ("one\ntwo", "one\n\ntwo"),
        ("in 12 lines", "in 13 lines"),
        (
            "the coins that were given have been spent with another wallet since.",
            "the coins that were taken have been spent with another wallet since.",
        ),
    ],
)
def test_what_matters_is_not_masked(one: str, other: str) -> None:
    assert mask(one) != mask(other)


def test_a_changed_amount_is_a_difference_and_is_written_into_the_page() -> None:
    printed = ["5.01 USD\n", "hello\n", ""]
    (found,) = differences(PAGE, printed)
    assert "5.00 USD" in found
    assert "5.01 USD" in found
    assert written(PAGE, printed) == PAGE.replace("5.00 USD", "5.01 USD")


def test_what_differs_each_time_is_no_difference() -> None:
    page = "```console\n$ pay\nPayment 1f2e3d4c.\n```\n"
    assert differences(page, ["Payment 00aa11bb.\n"]) == []


def test_commands_share_one_shell_and_its_standard_error_is_shown() -> None:
    assert play(["word=hello", "echo $word", "echo $word >&2", "printf $word", "false", "echo $?"]) == [
        "",
        "hello\n",
        "hello\n",
        "hello\n",
        "",
        "1\n",
    ]


def test_a_command_is_carried_out_as_one_of_its_own() -> None:
    home, refused, code, killed, told = play(
        [
            "echo $HOME",
            "ECASH_BANK_HOME=$HOME/none ecash bank accounts",
            "ecash --help >/dev/null; echo $?",
            "ecash bank init --no-such-option >/dev/null 2>&1; echo $?",
            "cd $HOME; ecash verify nothing.json >/dev/null 2>&1; echo $?",
        ]
    )
    assert home.strip()
    assert "is no home of a bank" in refused
    assert (code, killed, told) == ("0\n", "2\n", "1\n")


def test_a_shell_that_ends_too_early_or_never_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="the shell ended"):
        play(["exit", "echo never"])
    monkeypatch.setattr(guides, "LONGEST_S", 0.5)
    with pytest.raises(TimeoutError):
        play(["sleep 60"])
