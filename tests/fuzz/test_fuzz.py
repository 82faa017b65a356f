import random
from pathlib import Path

import pytest

from .forms import JSON, PACKED, RAW, TEXT, Form
from .fuzz import NOTHING, Changed, Plan, Tally, TooMuch, Watch, fuzz, try_one
from .hostile import AMOUNTS, OTHERS
from .mutate import mutate
from .source import CORPUS, SWEEP_FROM, Source, kept, slug
from .target import DROPPED, REFUSED, TAKEN, Target, checked
from .tree import JSON_TEXT, MESSAGEPACK, places

INPUTS = 24
MESSAGE = b"\x93\x01\xa3abc\xc4\x02xy"


async def test_nothing_escapes_and_everybody_still_serves(tmp_path: Path) -> None:
    """What is in the corpus goes first, and the corpus has no folder that is no target's."""
    report = await fuzz(tmp_path, Plan(seed=1, inputs=INPUTS, watch_every=INPUTS))
    assert report.findings == []
    assert report.executions == INPUTS * len(report.tallies)
    assert len(report.tallies) > 150
    assert {folder.name for folder in CORPUS.iterdir()} <= set(map(slug, report.tallies))
    for outcome in (TAKEN, REFUSED, DROPPED):
        assert report.count(outcome) > 100


async def test_what_escapes_is_reported_with_its_input() -> None:
    async def fail(data: bytes) -> str:
        raise ValueError

    finding = await try_one(Target("broken", [], fail), b"input", Tally())
    assert finding is not None
    assert (finding.target, finding.data, type(finding.error)) == ("broken", b"input", ValueError)


async def test_a_refusal_that_changes_something_is_reported() -> None:
    rows: list[bytes] = []
    target = Target("careless", [], checked(rows.append))
    watch = Watch(lambda: len(rows), 1, 0)
    assert await try_one(target, b"taken", Tally(), watch) is None

    async def refuse(data: bytes) -> str:
        rows.append(data)
        return REFUSED

    finding = await try_one(target._replace(run=refuse), b"refused", Tally(), watch)
    assert finding is not None
    assert isinstance(finding.error, Changed)


async def test_an_input_that_takes_too_much_memory_is_reported() -> None:
    target = Target("greedy", [], checked(lambda data: bytearray(len(data) * 10_000_000)))
    assert await try_one(target, b"12", Tally(), NOTHING) is None
    tally = Tally()
    tally.outcomes[TAKEN] = 1
    finding = await try_one(target, b"12", tally, Watch(lambda: None, 0, 1024))
    assert finding is not None
    assert isinstance(finding.error, TooMuch)


@pytest.mark.parametrize("form", [PACKED, JSON, TEXT, RAW])
def test_mutations_follow_from_the_seed(form: Form) -> None:
    first = [form.mutate(MESSAGE, random.Random(seed)) for seed in range(200)]
    assert first == [form.mutate(MESSAGE, random.Random(seed)) for seed in range(200)]
    assert len(set(first)) > 100


def test_a_mutation_is_never_longer_than_a_mebibyte() -> None:
    assert len(mutate(bytes(1 << 20), random.Random(1), [lambda data, _: data * 2])) == 1 << 20


def test_a_sweep_makes_each_field_wrong_in_each_way_also_inside_of_signed_bytes() -> None:
    inner = b"\x91\x05"
    swept = set(PACKED.sweep(b"\x92\x01\xc4" + bytes([len(inner)]) + inner))
    assert b"\x92\xcf" + (2**64 - 1).to_bytes(8, "big") + b"\xc4\x02" + inner in swept
    assert b"\x92\x01\xc4\x02\x91\xc0" in swept
    assert b"\x91\x01" in swept
    assert len(swept) > 3 * len(AMOUNTS)


def test_a_sweep_of_json_leaves_fields_out_and_adds_others() -> None:
    swept = set(JSON.sweep(b'{"a": [1]}'))
    assert {b"{}", b'{"a": [null]}', b'{"a": [1, 1]}', b'{"a": [1], "ax": [1]}'} <= swept
    assert len(swept) > len(OTHERS)


def test_a_sweep_of_a_text_cuts_it_everywhere() -> None:
    assert list(TEXT.sweep(b"abc")) == [b"", b"a", b"ab"]


def test_a_tree_is_written_as_it_was_read() -> None:
    for codec, data in ((MESSAGEPACK, b"\x92\x01\xc4\x02\x91\x05"), (JSON_TEXT, b'{"a": [1, "b"]}')):
        root, found = places(codec.read(data))
        assert codec.write(root[0]) == data
        assert len(found) > 3


@pytest.mark.parametrize("most", [10, SWEEP_FROM])
def test_inputs_begin_with_what_was_found_and_good_ones_and_follow_from_the_seed(most: int) -> None:
    target = Target("any", [MESSAGE], checked(len))
    first, again = (Source(target, random.Random(1), most) for _ in range(2))
    drawn = [first.draw() for _ in range(300)]
    assert drawn == [again.draw() for _ in range(300)]
    assert drawn[: len(kept(target)) + 1] == [*kept(target), MESSAGE]
