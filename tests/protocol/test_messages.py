import hashlib
import hmac
from itertools import pairwise

import msgpack
import msgspec.inspect as shape
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.answer import open_secret, seal_secret
from protocol.codec import Message
from protocol.coins import MAX_COINS, Coin, Evidence, SpentCoin
from protocol.envelope import EnvelopePrivateKey, Letter, Suite, open_letter, seal, seal_letter
from protocol.errors import PeerError
from protocol.messages import (
    HASH_FUNCTIONS,
    PARCEL,
    DepositRequest,
    Exhibits,
    Item,
    Parcel,
    PaymentInfo,
    PayRequest,
    Signed,
    Verdict,
    commit_to_coins,
    order_digest,
    order_line_hash,
    payer_digest,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key
from tests import shapes
from tests.world import NOW, World, alter, seed

TYPES = shapes.message_types()
FIELDS = [(kind, index) for kind in TYPES for index in range(len(shapes.fields(kind)))]
SALT = b"s" * 16


def test_the_messages_of_the_whole_package_are_tried() -> None:
    assert len(TYPES) == len(set(TYPES)) > 30


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(data=st.data())
def test_a_message_is_what_it_was_after_its_journey(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(shapes.strategy(shape.type_info(kind)))
    encoded = message.encode()
    assert type(message).decode(encoded) == message
    assert type(message).decode(encoded).encode() == encoded


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_the_smallest_message_of_each_kind_is_good(kind: type[Message]) -> None:
    wire = msgpack.packb(shapes.smallest(shape.type_info(kind)))
    assert kind.decode(wire).encode() == wire


@pytest.mark.parametrize(
    ("kind", "index"), FIELDS, ids=[f"{kind.__name__}.{kind.__struct_fields__[index]}" for kind, index in FIELDS]
)
def test_a_wrong_value_in_any_field_is_malformed(kind: type[Message], index: int) -> None:
    good = shapes.smallest(shape.type_info(kind))
    tried = 0
    for value in shapes.wrong(shapes.fields(kind)[index].type):
        wire = msgpack.packb([*good[:index], value, *good[index + 1 :]], strict_types=True)
        with pytest.raises(PeerError) as caught:
            kind.decode(wire)
        assert caught.value.refusal is Refusal.MALFORMED, value
        tried += 1
    assert tried >= 12


# ---------------------------------------------------------------- statements


def test_a_statement_is_checked_over_the_bytes_as_sent() -> None:
    signed = Signed.make(seed("merchant"), Domain.CATALOG, Item("novel", "A novel", 800, "USD"))
    assert Signed.decode(signed.encode()) == signed
    statement = signed.check(public_key(seed("merchant")), Domain.CATALOG)
    assert Item.decode(statement) == Item("novel", "A novel", 800, "USD")


def test_a_statement_altered_or_of_another_signer_or_domain_is_refused() -> None:
    key = public_key(seed("merchant"))
    signed = Signed.make(seed("merchant"), Domain.CATALOG, Item("novel", "A novel", 800, "USD"))
    wrong = [
        (alter(signed, "statement"), key, Domain.CATALOG),
        (alter(signed, "signature"), key, Domain.CATALOG),
        (signed, public_key(seed("other")), Domain.CATALOG),
        (signed, key, Domain.PAYREQ),
    ]
    for statement, signer, domain in wrong:
        with pytest.raises(PeerError) as caught:
            statement.check(signer, domain)
        assert caught.value.refusal is Refusal.BAD_SIGNATURE


# ---------------------------------------------------------------- orders and payers


ORDER = ("1 A novel 8.00 USD", "2 tea", "1 A novel 8.00 USD")


def test_one_line_of_an_order_is_opened_without_the_others() -> None:
    """A payer who shows line, index, salt of the line and the other commitments proves that one line."""
    hidden = [order_line_hash(SALT, index, line) for index, line in enumerate(ORDER)]
    line_salt = hmac.digest(SALT, b"ecash/v1 order line\0" + (1).to_bytes(4, "big"), "sha256")
    opened = hashlib.sha256(line_salt + ORDER[1].encode()).digest()
    assert opened == hidden[1]
    shown = hashlib.sha256(b"ecash/v1 order\0" + hidden[0] + opened + hidden[2]).digest()
    assert shown == order_digest(SALT, ORDER)


def test_equal_lines_have_different_commitments() -> None:
    assert order_line_hash(SALT, 0, ORDER[0]) != order_line_hash(SALT, 2, ORDER[2])


@pytest.mark.parametrize(
    ("salt", "order"),
    [
        (b"S" * 16, ORDER),
        (SALT, ORDER[:2]),
        (SALT, (ORDER[1], ORDER[0], ORDER[2])),
        (SALT, (*ORDER[:2], "1 A novel 8.01 USD")),
        (SALT, (ORDER[0] + ORDER[1], ORDER[2])),
        (SALT, (*ORDER, "")),
    ],
    ids=["salt", "line left out", "order of lines", "price", "lines joined", "line added"],
)
def test_another_order_has_another_digest(salt: bytes, order: tuple[str, ...]) -> None:
    assert order_digest(salt, order) != order_digest(SALT, ORDER)


@pytest.mark.parametrize("function", HASH_FUNCTIONS)
def test_a_payer_code_is_hashed_by_the_function_that_is_named(function: str) -> None:
    text = b"ecash/v1 payer code\0" + function.encode() + b"\0" + SALT + b"p" * 16 + "naïve".encode()
    assert payer_digest(function, SALT, b"p" * 16, "naïve") == hashlib.new(HASH_FUNCTIONS[function], text).digest()


def test_a_payer_digest_depends_on_function_salt_payment_and_code() -> None:
    digests = [
        payer_digest("sha-256", SALT, b"p" * 16, "code"),
        payer_digest("sha3-256", SALT, b"p" * 16, "code"),
        payer_digest("sha-256", b"S" * 16, b"p" * 16, "code"),
        payer_digest("sha-256", SALT, b"P" * 16, "code"),
        payer_digest("sha-256", SALT, b"p" * 16, "Code"),
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("function", ["", "md5", "sha1", "sha256", "SHA-256", "sha-256 "])
def test_a_hash_function_off_the_list_is_refused(function: str) -> None:
    with pytest.raises(PeerError) as caught:
        payer_digest(function, SALT, b"p" * 16, "code")
    assert caught.value.refusal is Refusal.MALFORMED


# ---------------------------------------------------------------- payment and verdict


def test_every_field_of_the_payment_information_is_in_its_digest(world: World) -> None:
    infos = [world.info, *(alter(world.info, field) for field in PaymentInfo.__struct_fields__)]
    assert len({info.digest for info in infos}) == len(infos)
    assert world.info.digest == hashlib.sha256(b"ecash/v1 payment\0" + world.info.encode()).digest()


def test_a_parcel_is_committed_to_by_its_key_and_its_coins_in_any_order(world: World) -> None:
    one, two, three = world.purse.coins
    encoded = b"".join(sorted(coin.encode() for coin in world.purse.coins))
    expected = hashlib.sha256(b"ecash/v1 parcel\0" + seed("evidence") + encoded).digest()
    assert commit_to_coins(seed("evidence"), (one, two, three)) == expected
    assert commit_to_coins(seed("evidence"), (three, one, two)) == expected
    assert world.parcel().commitment == world.info.parcel == expected


def test_another_key_and_other_coins_have_another_commitment(world: World) -> None:
    one, two, three = world.purse.coins
    other = world.withdraw(100, request_id=b"another" + bytes(9)).coins[0]
    commitments = [
        commit_to_coins(seed("evidence"), (one, two, three)),
        commit_to_coins(seed("other"), (one, two, three)),
        commit_to_coins(seed("evidence"), (one, two)),
        commit_to_coins(seed("evidence"), (one, two, three, three)),
        commit_to_coins(seed("evidence"), (other, two, three)),
        *(commit_to_coins(seed("evidence"), (alter(one, field), two, three)) for field in Coin.__struct_fields__),
        commit_to_coins(seed("evidence"), ()),
    ]
    assert len(set(commitments)) == len(commitments)


def test_the_commitment_is_to_the_coins_and_not_to_how_they_were_spent(world: World) -> None:
    parcel = world.parcel()
    elsewhere = Parcel(seed("another payment"), parcel.evidence_key, world.purse.spend(seed("another payment")))
    assert elsewhere.commitment == parcel.commitment


@pytest.mark.parametrize("suite", Suite)
def test_a_payment_of_the_most_coins_fits_into_its_envelopes(suite: Suite, world: World) -> None:
    size = {Suite.X25519: 32, Suite.MLKEM768_X25519: 96}[suite]
    bank = EnvelopePrivateKey(suite, (seed("one") + seed("two") + seed("three"))[:size])
    spent = SpentCoin(Coin(b"d" * 32, b"s" * 32, b"c" * 256), b"x" * 64)
    parcel = Parcel(world.info.digest, seed("evidence"), (spent,) * MAX_COINS)
    sealed = seal(bank.public, PARCEL, parcel.encode())
    assert Parcel.decode(bank.open(sealed, PARCEL)) == parcel
    info = world.info.encode()
    for kind, body in (("pay", PayRequest(info, sealed, SALT)), ("deposit", DepositRequest(info, sealed))):
        assert type(body).decode(body.encode()) == body
        letter = Letter(kind, b"r" * 16, NOW, seed("answer"), b"", body.encode())
        assert open_letter(bank, seal_letter(bank.public, letter, None), kind) == letter


@pytest.mark.parametrize("count", [1, 190, 194, MAX_COINS])
def test_a_verdict_holds_the_evidence_against_every_coin_of_a_payment(world: World, count: int) -> None:
    exhibits = Exhibits((Evidence(b"d" * 32, b"s" * 32, b"p" * 32, b"x" * 64),) * count)
    evidence = seal_secret(seed("evidence"), world.info.digest, exhibits.encode())
    verdict = world.verdict(Refusal.ALREADY_SPENT, evidence)
    assert Verdict.decode(verdict.encode()) == verdict
    assert Exhibits.decode(open_secret(seed("evidence"), world.info.digest, verdict.evidence)) == exhibits


def test_hash_functions_give_digests_that_a_payment_can_carry() -> None:
    lengths = sorted(len(payer_digest(function, SALT, b"p" * 16, "")) for function in HASH_FUNCTIONS)
    assert all(32 <= one <= other <= 64 for one, other in pairwise(lengths))
