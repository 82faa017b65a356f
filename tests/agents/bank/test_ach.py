"""The bank's ACH files, against achkit, a library that writes, reads and judges the format by itself."""

from datetime import UTC, date, datetime
from typing import Any

import achkit
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.bank import ach
from agents.bank.ach import Credit, Destination, Originator, Return, Settlement

ODFI = "09100001"
OPERATOR = Originator("091000019", "FIRST BANK", " 123456780", "ECASH BANK", "1234567890", ODFI)
SHOP = Destination("021000021", "12-345A", "checking", "Bob's Books (NY)")
FARM = Destination("322271627", "99", "savings", "Farm & Sons")
PAIR = [Credit(17, SHOP, 125_000, "payout 17"), Credit(18, FARM, 1, "")]
AT = 1_795_366_083_000
"""2026-11-22 16:48:03 UTC"""
DAY = date(2026, 11, 24)
MORNING = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)


def routing_number(prefix: str, middle: str) -> str:
    head = prefix + middle
    total = sum(int(digit) * weight for digit, weight in zip(head, (3, 7, 1, 3, 7, 1, 3, 7), strict=True))
    return head + str(-total % 10)


def digits(width: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=width, max_size=width)


def texts(longest: int) -> st.SearchStrategy[str]:
    inner = "ABCXYZabcxyz0189./()&'-"
    return st.text(f"{inner} ", min_size=1, max_size=longest).map(str.strip).filter(bool)


ROUTINGS = st.builds(routing_number, st.sampled_from(["01", "09", "12", "21", "32", "61", "72", "80"]), digits(6))
DESTINATIONS = st.builds(
    Destination,
    routing=ROUTINGS,
    number=st.text("ABYZabyz0189-", min_size=1, max_size=17),
    kind=st.sampled_from(["checking", "savings"]),
    holder=texts(22),
)
CREDITS = st.builds(
    Credit,
    trace=st.integers(1, ach.MAX_TRACE),
    destination=DESTINATIONS,
    amount=st.integers(1, ach.MAX_CENTS),
    reference=st.just("") | texts(15),
)
BATCHES = st.lists(CREDITS, min_size=1, max_size=8, unique_by=lambda credit: credit.trace)
OPERATORS = st.builds(
    lambda destination, name, company, number, origin: Originator(
        destination, name, f" {origin}", company, number, origin[:8]
    ),
    ROUTINGS,
    texts(23),
    texts(16),
    digits(10),
    ROUTINGS,
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))


def written_by_achkit(
    operator: Originator, modifier: str, created: datetime, effective: date, batch: list[Credit]
) -> bytes:
    """The same file by the other library's hand, which counts trace numbers from 1 and leaves the reference blank."""
    file = achkit.AchFile.create(
        origin_dfi=operator.origin.strip(),
        company_id=operator.company_id,
        destination_routing=operator.destination,
        destination_name=operator.destination_name,
        origin_name=operator.company_name,
        file_id_modifier=modifier,
        creation_date=created,
    )
    payouts = file.batch(sec="CCD", description="PAYOUT", effective_date=effective.isoformat())
    for credit in batch:
        routing, number, kind, holder = credit.destination
        payouts.credit(holder, routing, number, credit.amount, account_type=kind, id_number=credit.reference)
    text: str = file.render()
    return text.encode("ascii")


def returned(*entries: tuple[int, int, str], code: int = 21, odfi: str = ODFI) -> bytes:
    """A returns file, a batch for each (trace, amount, reason code).

    The other library writes credits with addenda of type 05; what a return has otherwise is written over them.
    """
    file = achkit.AchFile.create(
        origin_dfi="021000021", company_id="1234567890", destination_routing="123456780", creation_date=MORNING
    )
    for trace, amount, reason in entries:
        told = f"{reason}{odfi}{trace:07}{'':6}02100002{'':44}0210"
        batch = file.batch(sec="CCD", description="PAYOUT", effective_date="2026-11-24", company_name="ECASH BANK")
        batch.credit("Bob's Books", "091000019", "12-345A", amount, addenda=told)
    lines = file.render().splitlines()
    for at, (_, _, reason) in enumerate(entries):
        entry, addenda = 2 + 4 * at, 3 + 4 * at
        kind = "98" if reason.startswith("C") else "99"
        lines[entry] = f"6{code}{lines[entry][3:]}"
        lines[addenda] = f"7{kind}{lines[addenda][3:83]}0002{lines[addenda][87:]}"
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def with_line(data: bytes, number: int, at: int, put: bytes) -> bytes:
    """The file with `put` written over line `number` (from 1) at column `at` (from 1)."""
    lines = data.split(b"\n")
    line = lines[number - 1]
    lines[number - 1] = line[: at - 1] + put + line[at - 1 + len(put) :]
    return b"\n".join(lines)


def test_a_small_file_is_this_one() -> None:
    lines = [
        "101 091000019 1234567802611221648C094101FIRST BANK             ECASH BANK             00000003",
        "5220ECASH BANK                          1234567890CCDPAYOUT          261124   1091000010000001",
        "62202100002112-345A          0000125000payout 17      Bob's Books (NY)        0091000010000017",
        "63232227162799               0000000001               Farm & Sons             0091000010000018",
        "822000000200343271640000000000000000001250011234567890                         091000010000001",
        "9000001000001000000020034327164000000000000000000125001                                       ",
        *["9" * 94] * 4,
    ]
    assert ach.write_file(OPERATOR, 3, AT, DAY, PAIR).decode() == "".join(f"{line}\n" for line in lines)


@given(OPERATORS, st.integers(1, 36), MOMENTS, DAYS, BATCHES)
def test_another_library_writes_the_same_bytes(
    operator: Originator, file_number: int, created: datetime, effective: date, batch: list[Credit]
) -> None:
    batch = [credit._replace(trace=trace) for trace, credit in enumerate(batch, start=1)]
    data = ach.write_file(operator, file_number, int(created.timestamp()) * 1000, effective, batch)
    modifier = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[file_number - 1]
    by_achkit = written_by_achkit(operator, modifier, created, effective, batch)
    # It writes all text in capitals, which the format does not ask for.
    assert with_line(data, 1, 87, b" " * 8).upper() == by_achkit


@given(BATCHES)
def test_another_library_accepts_the_file_and_reads_every_field_back(batch: list[Credit]) -> None:
    operator = OPERATOR._replace(origin="ABC1234567", company_id="X123456789")
    text = ach.write_file(operator, 2, AT, DAY, batch).decode()
    assert achkit.validate(text) == {"ok": True, "errors": []}
    read: dict[str, Any] = achkit.parse(text)
    assert (read["destination_routing"], read["origin_routing"]) == (operator.destination, operator.origin)
    assert (read["creation_date"], read["creation_time"], read["file_id_modifier"]) == ("261122", "1648", "B")
    (only,) = read["batches"]
    assert (only["service_class"], only["sec"], only["description"]) == (220, "CCD", "PAYOUT")
    assert (only["company_name"], only["company_id"]) == (operator.company_name, operator.company_id)
    assert (only["effective_date"], only["origin_dfi"], only["batch_number"]) == ("261124", ODFI, 1)
    entries = [
        Credit(
            int(entry["trace_number"].removeprefix(ODFI)),
            Destination(entry["routing"], entry["account"], {22: "checking", 32: "savings"}[code], entry["name"]),
            entry["amount_cents"],
            entry["id_number"],
        )
        for entry in only["entries"]
        for code in [entry["txn_code"]]
    ]
    assert entries == sorted(batch)
    total = sum(credit.amount for credit in batch)
    for control in (only["control"], read["control"]):
        assert (control["total_debit"], control["total_credit"]) == (0, total)
        assert control["entry_addenda_count"] == len(batch)


@given(st.permutations([Credit(trace, SHOP, trace, "") for trace in range(1, 9)]))
def test_the_order_of_the_credits_does_not_change_a_byte(batch: list[Credit]) -> None:
    assert ach.write_file(OPERATOR, 1, AT, DAY, batch) == ach.write_file(OPERATOR, 1, AT, DAY, sorted(batch))


def test_the_entry_hash_keeps_its_last_ten_digits() -> None:
    far = SHOP._replace(routing=routing_number("80", "999999"))
    batch = [Credit(trace, far, 1, "") for trace in range(1, 131)]
    data = ach.write_file(OPERATOR, 1, AT, DAY, batch).decode()
    assert 130 * int(far.routing[:8]) == 10_529_999_870
    assert achkit.parse(data)["control"]["entry_hash"] == "0529999870"
    assert achkit.validate(data)["ok"]


@pytest.mark.parametrize(("credits", "lines"), [(1, 10), (6, 10), (7, 20), (16, 20)])
def test_a_file_fills_whole_blocks_of_ten(credits: int, lines: int) -> None:  # noqa: A002
    data = ach.write_file(OPERATOR, 1, AT, DAY, [Credit(n, SHOP, 1, "") for n in range(1, credits + 1)])
    assert data.count(b"\n") == lines
    assert achkit.parse(data.decode())["control"]["block_count"] == lines // 10


@pytest.mark.parametrize(("number", "modifier"), [(1, "A"), (26, "Z"), (27, "0"), (36, "9"), (37, "A")])
def test_the_file_number_tells_the_files_of_a_day_apart(number: int, modifier: str) -> None:
    header = ach.write_file(OPERATOR, number, AT, DAY, PAIR).decode().splitlines()[0]
    assert (header[33], header[86:]) == (modifier, f"{number:08}")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"routing": "02100002"}, "must be the 9 digits"),
        ({"routing": "021000022"}, "wrong digit"),
        ({"routing": "000000000"}, "must be the 9 digits of an American bank"),
        ({"routing": "02100002\u0661"}, "must be the 9 digits"),
        ({"routing": "021000021\n"}, "must be the 9 digits"),
        ({"number": ""}, "1 to 17"),
        ({"number": "1" * 18}, "1 to 17"),
        ({"number": "12 34"}, "without spaces"),
        ({"kind": "loan"}, "checking or savings"),
        ({"holder": ""}, "1 to 22"),
        ({"holder": "x" * 23}, "1 to 22"),
        ({"holder": " Bob"}, "inner spaces"),
        ({"holder": "Bob\n"}, "inner spaces"),
        ({"holder": "Zoë"}, "letters, digits"),
    ],
)
def test_a_wrong_destination_is_told_what_to_correct(fields: dict[str, str], complaint: str) -> None:
    wrong = SHOP._replace(**fields)
    with pytest.raises(ValueError, match=complaint):
        ach.parse_destination(*wrong)
    with pytest.raises(ValueError, match=complaint):
        ach.write_file(OPERATOR, 1, AT, DAY, [Credit(1, wrong, 1, "")])


def test_a_complaint_does_not_repeat_a_long_text() -> None:
    with pytest.raises(ValueError, match="account number") as raised:
        ach.parse_destination(SHOP.routing, "é" * 100_000, "checking", "Bob")
    assert len(str(raised.value)) < 300


@given(st.sampled_from(["01", "32", "61"]), digits(7))
def test_a_routing_number_is_judged_as_another_library_does(prefix: str, rest: str) -> None:
    try:
        accepted = bool(ach.parse_destination(prefix + rest, "1", "savings", "Bob"))
    except ValueError:
        accepted = False
    assert accepted == achkit.is_valid_routing(prefix + rest)


@given(DESTINATIONS)
def test_a_right_destination_is_parsed_as_it_stands(destination: Destination) -> None:
    assert ach.parse_destination(*destination) == destination


@pytest.mark.parametrize("origin", ["123456780", " 123456780", "1234567890", "ABC1234567"])
def test_an_originator_has_an_origin_of_ten_characters(origin: str) -> None:
    parsed = ach.parse_originator(*OPERATOR._replace(origin=origin))
    assert parsed == OPERATOR._replace(origin=origin.rjust(10))
    assert len(parsed.origin) == 10


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"destination": "091000018"}, "immediate destination"),
        ({"destination_name": "x" * 24}, "1 to 23"),
        ({"origin": "12345678"}, "immediate origin"),
        ({"origin": "abc1234567"}, "immediate origin"),
        ({"company_name": "x" * 17}, "1 to 16"),
        ({"company_name": "A_B"}, "letters, digits"),
        ({"company_id": "123456789"}, "company identification"),
        ({"odfi": "091000019"}, "ODFI"),
    ],
)
def test_a_wrong_originator_is_told_what_to_correct(fields: dict[str, str], complaint: str) -> None:
    wrong = OPERATOR._replace(**fields)
    with pytest.raises(ValueError, match=complaint):
        ach.parse_originator(*wrong)
    with pytest.raises(ValueError, match=complaint):
        ach.write_file(wrong, 1, AT, DAY, PAIR)


def test_a_file_that_cannot_be_told_in_the_format_is_not_written() -> None:
    rich = [Credit(trace, SHOP, ach.MAX_CENTS, "") for trace in range(1, 102)]
    for batch, complaint in [
        ([], "number of credits is 0"),
        ([PAIR[0]] * (ach.MAX_CREDITS + 1), "number of credits is 50001"),
        ([PAIR[0], PAIR[0]], "same trace"),
        (rich, "sum of the credits"),
        ([PAIR[0]._replace(trace=0)], "trace number is 0"),
        ([PAIR[0]._replace(trace=10**7)], "trace number is 10000000"),
        ([PAIR[0]._replace(amount=0)], "amount of a credit is 0"),
        ([PAIR[0]._replace(amount=10**10)], "amount of a credit is 10000000000"),
        ([PAIR[0]._replace(reference="x" * 16)], "reference"),
        ([PAIR[0]._replace(reference="a_b")], "reference"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            ach.write_file(OPERATOR, 1, AT, DAY, batch)
    for number, at, day, complaint in [
        (0, AT, DAY, "file number"),
        (10**8, AT, DAY, "file number"),
        (1, -1, DAY, "time of creation"),
        (1, 4_102_444_800_000, DAY, "time of creation"),
        (1, AT, date(1999, 12, 31), "effective date"),
        (1, AT, date(2100, 1, 1), "effective date"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            ach.write_file(OPERATOR, number, at, day, PAIR)


def test_the_largest_sum_is_written() -> None:
    batch = [Credit(trace, SHOP, ach.MAX_CENTS, "") for trace in range(1, 101)]
    batch.append(Credit(101, SHOP, ach.MAX_TOTAL - 100 * ach.MAX_CENTS, ""))
    assert achkit.validate(ach.write_file(OPERATOR, 1, AT, DAY, batch).decode())["ok"]


def test_returns_are_read_with_their_reasons() -> None:
    data = returned((17, 125_000, "R03"), (18, 1, "R23"), (ach.MAX_TRACE, ach.MAX_CENTS, "R98"))
    expected = [
        Return(17, 125_000, "R03", "No account or unable to locate account"),
        Return(18, 1, "R23", "Credit entry refused by receiver"),
        Return(ach.MAX_TRACE, ach.MAX_CENTS, "R98", "return code R98"),
    ]
    assert ach.read_returns(data, ODFI) == expected
    assert ach.read_file(data.replace(b"\n", b"\r\n"), ODFI) == expected


def test_a_returns_file_as_the_layout_has_it_is_read() -> None:
    data = (
        "101 123456780 0910000192611250930A094101ECASH BANK             FIRST BANK                     \n"
        "5220ECASH BANK                          1234567890CCDPAYOUT          2611243291021000020000001\n"
        "63109100001999               0000000001               Farm & Sons             1021000020000001\n"
        "799R02091000010000018      32227162                                            021000020000001\n"
        "822000000200091000010000000000000000000000011234567890                         021000020000001\n"
        "9000001000001000000020009100001000000000000000000000001                                       "
    )
    assert ach.read_returns(data.encode(), ODFI) == [Return(18, 1, "R02", "Account closed")]


def test_a_notification_of_change_is_passed_over() -> None:
    assert ach.read_returns(returned((17, 0, "C01"), (17, 125_000, "R02")), ODFI) == [
        Return(17, 125_000, "R02", "Account closed")
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(1, ach.MAX_TRACE), st.integers(1, ach.MAX_CENTS), st.integers(1, 99).map("R{:02}".format)
        ),
        max_size=8,
        unique_by=lambda entry: entry[0],
    ),
    st.sampled_from([21, 31]),
)
def test_what_another_library_returns_is_read(entries: list[tuple[int, int, str]], code: int) -> None:
    read = ach.read_returns(returned(*entries, code=code), ODFI)
    assert [(one.trace, one.amount, one.code) for one in read] == entries


def test_every_reason_that_we_name_is_known_elsewhere() -> None:
    required = {f"R{n:02}" for n in (*range(1, 11), 16, 20, 23, 29)}
    assert required <= set(ach.REASONS) <= set(achkit.RETURN_CODES)


RETURNED = returned((17, 125_000, "R03"), (18, 1, "R23"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "line 1: a file header"),
        (b"\n" * (ach.MAX_LINES + 1), "longer than"),
        (b"x" * (ach.MAX_BYTES + 1), "longer than"),
        (with_line(RETURNED, 4, 60, b"\xe9"), "line 4: a character is not ASCII"),
        (with_line(RETURNED, 1, 35, b"080"), "line 1: a file header"),
        (RETURNED[95:], "line 1: a file header"),
        (with_line(RETURNED, 2, 1, b"4"), "line 2: a file control record"),
        (with_line(RETURNED, 2, 4, b"x"), "line 2: a batch header"),
        (RETURNED.replace(b" \n", b"\n", 1), "line 1: a file header"),
        (returned((17, 1, "R03"), code=26), "line 3: the return of a credit"),
        (returned((17, 1, "R03"), code=22), "line 3: the return of a credit"),
        (with_line(RETURNED, 3, 79, b"0"), "line 3: the return of a credit"),
        (ach.write_file(OPERATOR, 1, AT, DAY, PAIR), "line 3: the return of a credit"),
        (with_line(RETURNED, 4, 2, b"05"), "line 4: an addenda record"),
        (with_line(RETURNED, 4, 4, b"X"), "line 4: an addenda record"),
        (with_line(RETURNED, 5, 1, b"7"), "line 5: a batch control record"),
        (with_line(RETURNED, 5, 10, b"3"), "line 5: the batch's totals"),
        (with_line(RETURNED, 5, 20, b"9"), "line 5: the batch's totals"),
        (with_line(RETURNED, 5, 32, b"1"), "line 5: the batch's totals"),
        (with_line(RETURNED, 5, 44, b"1"), "line 5: the batch's totals"),
        (with_line(RETURNED, 3, 39, b"1"), "line 5: the batch's totals"),
        (with_line(RETURNED, 10, 7, b"1"), "line 10: the file's totals"),
        (with_line(RETURNED, 10, 55, b"9"), "line 10: the file's totals"),
        (RETURNED[: 95 * 9], "line 10: a file control record"),
        (RETURNED[: 95 * 5] + b"9" * 94, "line 6: the file's totals"),
        (RETURNED + RETURNED, "line 11: a line of 9s, or the end"),
        (returned((17, 1, "R03"), odfi="09100002"), "line 4: trace number 091000020000017 is none of ours"),
        (returned((0, 1, "R03")), "line 4: trace number 091000010000000 is none of ours"),
        (returned((17, 0, "R03")), "line 4: trace number 17 returns no money"),
        (returned((17, 1, "R03"), (17, 1, "R03")), "line 8: trace number 17 stands twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_taken_from_a_returns_file_with_a_fault(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ach.read_returns(data, ODFI)


SETTLED = b"trace,amount_cents,settled_on\n17,125000,2026-11-24\n18,1,2026-11-25\n"


@pytest.mark.parametrize("data", [SETTLED, SETTLED.replace(b"\n", b"\r\n"), SETTLED[:-1]])
def test_settlements_are_read(data: bytes) -> None:
    expected = [Settlement(17, 125_000, DAY), Settlement(18, 1, date(2026, 11, 25))]
    assert ach.read_settlements(data) == expected
    assert ach.read_file(data, ODFI) == expected


def test_a_settlements_file_may_hold_nothing() -> None:
    assert ach.read_settlements(b"trace,amount_cents,settled_on\n") == []


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (b"17,125000,2026-11-24", "line 1: the heading"),
        (b"trace,amount_cents,settled_on\n17,1250.00,2026-11-24", "line 2: trace,amount_cents"),
        (b"trace,amount_cents,settled_on\n017,1,2026-11-24", "line 2: trace,amount_cents"),
        (b"trace,amount_cents,settled_on\n17,0,2026-11-24", "line 2: trace,amount_cents"),
        (b"trace,amount_cents,settled_on\n10000000,1,2026-11-24", "line 2: trace,amount_cents"),
        (b"trace,amount_cents,settled_on\n17,1,2026-11-24\n\n", "line 3: trace,amount_cents"),
        (b"trace,amount_cents,settled_on\n17,1,2026-02-30", "line 2: 2026-02-30 is no date"),
        (SETTLED + b"17,125000,2026-11-24\n", "line 4: trace number 17 stands twice"),
        (SETTLED + b"\xff", "line 4: a character is not ASCII"),
    ],
)
def test_nothing_is_taken_from_a_settlements_file_with_a_fault(rows: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ach.read_settlements(rows)


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    positions = st.integers(0, len(data))
    return st.builds(
        lambda at, gone, put: data[:at] + put + data[at + gone :], positions, st.integers(0, 200), st.binary(max_size=8)
    )


@given(st.binary(max_size=500) | damaged(RETURNED) | damaged(SETTLED))
def test_hostile_bytes_are_read_or_refused_as_a_value_error(data: bytes) -> None:
    for read in (ach.read_file, ach.read_returns, lambda data, _: ach.read_settlements(data)):
        try:
            facts: Any = read(data, ODFI)
        except ValueError:
            continue
        assert all(1 <= fact.trace <= ach.MAX_TRACE and 1 <= fact.amount <= ach.MAX_CENTS for fact in facts)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_hostile_text_is_a_destination_or_refused_as_a_value_error(
    routing: str, number: str, kind: str, holder: str
) -> None:
    with pytest.raises(ValueError, match="must be"):
        ach.parse_destination(routing, number, kind, holder)
