import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.errors import OurError, PeerError
from protocol.refusals import Refusal
from protocol.topics import (
    ANNOUNCEMENTS,
    BANK_KINDS,
    MERCHANT_KINDS,
    RESERVED,
    Announcement,
    BankRequest,
    Inbox,
    MerchantRequest,
    Reply,
    Topic,
    parse,
)

NAMES = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True).filter(lambda name: name not in RESERVED)
CLIENTS = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
BANK_REQUESTS = st.builds(BankRequest, NAMES, st.integers(0, 255), st.sampled_from(sorted(BANK_KINDS)), CLIENTS)
MERCHANT_REQUESTS = st.builds(MerchantRequest, NAMES, st.sampled_from(sorted(MERCHANT_KINDS)), CLIENTS)
REPLIES = st.builds(Reply, CLIENTS, NAMES)
OUTSIDE = st.builds(Announcement, NAMES, st.sampled_from(sorted(ANNOUNCEMENTS)))
INBOXES = st.builds(Inbox, CLIENTS, CLIENTS)
TOPICS = BANK_REQUESTS | MERCHANT_REQUESTS | REPLIES | INBOXES | OUTSIDE


@given(TOPICS)
def test_every_topic_is_read_as_it_was_written(topic: Topic) -> None:
    assert parse(str(topic)) == topic


WORDS = ("", "ecash", "v1", "v2", "reply", "inbox", "bank", "keys", "totals", "deposit", "refund", "pay", "A")
LEVELS = st.sampled_from((*WORDS, "0", "00", "255", "256", "-1", "+", "#"))


@given(st.lists(LEVELS, max_size=8).map("/".join) | st.text(max_size=60))
def test_what_can_be_read_has_one_spelling(text: str) -> None:
    with contextlib.suppress(PeerError):
        assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ecash/v1",
        "ecash/v1/bank",
        "ecash/v2/bank/keys",
        "ecash/v1/bank/keys/",
        "/ecash/v1/bank/keys",
        "ecash/v1/bank/secrets",
        "ecash/v1/reply/keys",
        "ecash/v1/reply/order/c\n",
        "ecash/v1/reply/c/reply",
        "ecash/v1/reply/0/deposit/c",
        "ecash/v1/observer/keys",
        "ecash/v1/inbox/keys",
        "ecash/v1/inbox/totals",
        "ecash/v1/inbox/0/deposit/c",
        "ecash/v1/inbox/c",
        "ecash/v1/inbox/c/",
        "ecash/v1/inbox/c/D",
        "ecash/v1/inbox/c/d/e",
        "ecash/v1/reply/c/inbox",
        "ecash/v1/bank/00/deposit/c",
        "ecash/v1/bank/256/deposit/c",
        "ecash/v1/bank/٣/deposit/c",
        "ecash/v1/bank/0/order/c",
        "ecash/v1/bank/0/deposit/",
        "ecash/v1/bank/0/deposit/a+b",
        "ecash/v1/Bank/0/deposit/c",
        "ecash/v1/shop/deposit/c",
        "ecash/v1/shop/order/" + "c" * 65,
    ],
)
def test_what_is_none_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse(text)
    assert caught.value.refusal is Refusal.MALFORMED


def test_the_builders_write_the_documented_topics() -> None:
    assert topics.keys("bank") == "ecash/v1/bank/keys"
    assert topics.status("bank") == "ecash/v1/bank/status"
    assert topics.catalog("shop") == "ecash/v1/shop/catalog"
    assert topics.totals("bank") == "ecash/v1/bank/totals"
    assert topics.inbox("c0", "c1") == "ecash/v1/inbox/c0/c1"
    assert topics.inboxes("c0") == "ecash/v1/inbox/c0/+"
    assert topics.bank_request("bank", 7, "withdraw", "c0") == "ecash/v1/bank/7/withdraw/c0"
    assert topics.merchant_request("shop", "order", "c0") == "ecash/v1/shop/order/c0"
    assert topics.bank_requests("bank", 255) == "ecash/v1/bank/255/+/+"
    assert topics.merchant_requests("shop") == tuple(f"ecash/v1/shop/{kind}/+" for kind in ("order", "pay", "refund"))
    assert topics.replies("c0") == "ecash/v1/reply/c0/+"
    assert topics.agent_client("bank", "f00") == "bank-f00"


@given(BANK_REQUESTS | MERCHANT_REQUESTS, NAMES)
def test_an_answer_goes_to_who_asked(request: BankRequest | MerchantRequest, sender: str) -> None:
    assert parse(topics.reply_to(request, sender)) == Reply(request.client, sender)


@pytest.mark.parametrize("name", ["", "reply", "inbox", "observer", "Bank", "a b", "a/b", "+", "é", "x\n", "x" * 33])
def test_a_bad_name_is_refused_wherever_it_is_used(name: str) -> None:
    request = MerchantRequest("shop", "order", "c0")
    uses: tuple[Callable[[], object], ...] = (
        lambda: topics.check_name(name),
        lambda: topics.keys(name),
        lambda: topics.status(name),
        lambda: topics.totals(name),
        lambda: topics.catalog(name),
        lambda: topics.bank_request(name, 0, "deposit", "c0"),
        lambda: topics.merchant_request(name, "order", "c0"),
        lambda: topics.reply_to(request, name),
        lambda: topics.bank_requests(name, 0),
        lambda: topics.merchant_requests(name),
        lambda: topics.agent_client(name, "0"),
    )
    for use in uses:
        with pytest.raises(PeerError):
            use()


@pytest.mark.parametrize("client", ["", "C0", "a/b", "+", "#", "c" * 65])
def test_a_bad_client_id_is_refused_wherever_it_is_used(client: str) -> None:
    uses: tuple[Callable[[], object], ...] = (
        lambda: topics.bank_request("bank", 0, "deposit", client),
        lambda: topics.merchant_request("shop", "order", client),
        lambda: topics.reply_to(MerchantRequest("shop", "order", client), "shop"),
        lambda: topics.replies(client),
        lambda: topics.inbox(client, "c0"),
        lambda: topics.inbox("c0", client),
        lambda: topics.inboxes(client),
    )
    for use in uses:
        with pytest.raises(PeerError):
            use()


def test_a_lane_or_kind_that_does_not_exist_is_a_bug_of_the_caller() -> None:
    assert {"check", "exchange", "fetch", "payout", "proof", "recover", "redeem", "refund"} < BANK_KINDS
    for lane, kind in ((-1, "deposit"), (256, "deposit"), (0, "order")):
        with pytest.raises(OurError):
            topics.bank_request("bank", lane, kind, "c0")
    with pytest.raises(OurError):
        topics.merchant_request("shop", "deposit", "c0")
    for lane in (-1, 256):
        with pytest.raises(OurError):
            topics.bank_requests("bank", lane)


@given(st.binary(max_size=32), st.integers(1, 256), st.integers(0, 1000))
def test_the_tries_of_a_request_visit_every_lane(request_id: bytes, lanes: int, attempt: int) -> None:
    tried = [topics.lane_of(request_id, lanes, attempt + number) for number in range(lanes)]
    assert sorted(tried) == list(range(lanes))
    assert topics.lane_of(request_id, lanes, attempt) == tried[0]


def test_first_tries_spread_over_the_lanes() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[topics.lane_of(number.to_bytes(16, "big"), 8, 0)] += 1
    assert all(850 < count < 1150 for count in counts)


@pytest.mark.parametrize(("lanes", "attempt"), [(0, 0), (257, 0), (1, -1)])
def test_lanes_out_of_range_are_a_bug_of_the_caller(lanes: int, attempt: int) -> None:
    with pytest.raises(OurError):
        topics.lane_of(b"", lanes, attempt)
