import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.messages import Payreq, Signed
from protocol.payment_link import MAX_LINK, MAX_PAYREQ, PaymentLink, is_payment_link
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.token import fits_qr
from tests.shapes import fields, strategy
from tests.world import BANK, SHOP, World, alter, seed, world

WORLD = world()
BROKER = "mqtt://broker.example:1883"
SCHEME = "web+ecash:pay/"


def signed(payreq: Payreq, by: World = WORLD) -> bytes:
    return Signed.make(by.shop_seed, Domain.PAYREQ, payreq).encode()


LINK = PaymentLink.of(SHOP, BANK, seed("fingerprint"), BROKER, signed(WORLD.payreq))


def refusal_of(text: str) -> Refusal:
    with pytest.raises(PeerError) as caught:
        PaymentLink.parse(text)
    return caught.value.refusal


def payreqs() -> st.SearchStrategy[Payreq]:
    return st.builds(Payreq, *(strategy(field.type) for field in fields(Payreq)))


class TestTheText:
    def test_it_is_an_address_in_lower_case(self) -> None:
        text = str(LINK)
        assert text.startswith(SCHEME)
        assert set(text.removeprefix(SCHEME)) <= set("abcdefghijklmnopqrstuvwxyz234567")

    @given(payreq=payreqs(), names=st.tuples(*[st.from_regex(r"^[a-z0-9-]{1,32}\Z")] * 2), key=st.binary(max_size=64))
    def test_what_was_written_is_read(self, payreq: Payreq, names: tuple[str, str], key: bytes) -> None:
        link = PaymentLink.of(*names, seed("bank"), BROKER, Signed(payreq.encode(), key.ljust(64)).encode())
        assert PaymentLink.parse(str(link)) == link
        assert link.unverified == payreq

    @pytest.mark.parametrize(
        "form",
        [
            str(LINK).upper(),
            str(LINK).swapcase(),
            str(LINK).replace(SCHEME, "web+ecash://pay/"),
            str(LINK).replace(SCHEME, "WEB+ECASH://Pay/"),
            f"  \t{LINK}\r\n",
        ],
    )
    def test_case_slashes_and_white_space_around_it_do_not_matter(self, form: str) -> None:
        assert PaymentLink.parse(form) == LINK
        assert is_payment_link(form)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            SCHEME,
            "web+ecash:",
            "web+ecash:/pay/",
            str(LINK).removeprefix("web+"),
            str(LINK).removeprefix(SCHEME),
            str(LINK).replace("pay", "give"),
            str(LINK).replace(SCHEME, "web+ecash:///pay/"),
            f"{str(LINK)[:40]} {str(LINK)[40:]}",
            f"{str(LINK)[:40]}\n{str(LINK)[40:]}",
            f"{LINK}=",
            f"{LINK}/",
            f"{LINK}?a=b",
            f"{LINK}#a",
            f"{LINK}a",
            str(LINK)[:-1],
            str(LINK) * 2,
            str(LINK).replace("web", "w\u0435b"),
            "javascript:alert(1)//" + str(LINK),
            SCHEME + "A" * MAX_LINK,
            " " * MAX_LINK + str(LINK),
        ],
    )
    def test_everything_else_is_refused(self, text: str) -> None:
        assert refusal_of(text) is Refusal.MALFORMED

    def test_bits_to_spare_are_refused(self) -> None:
        """Else one link would have several texts."""
        links = (alter(LINK, "broker", "mqtt://b" + "x" * n) for n in range(5))
        text = next(str(link) for link in links if len(link.encode()) % 5 == 1)
        assert refusal_of(text[:-1] + chr(ord(text[-1]) + 1)) is Refusal.MALFORMED

    @given(cut=st.integers(1, 600))
    def test_a_cut_link_is_refused(self, cut: int) -> None:
        assert refusal_of(str(LINK)[:-cut]) is Refusal.MALFORMED

    @given(text=st.text(max_size=80))
    def test_hostile_text_raises_nothing_else(self, text: str) -> None:
        for scheme in (SCHEME, "WEB+ECASH://PAY/", ""):
            with pytest.raises(PeerError):
                PaymentLink.parse(scheme + text)

    @pytest.mark.parametrize("text", ["bookshop", "web", "ecash:pay/aa", "ECASH:AA", "https://shop.example", ""])
    def test_other_words_are_not_meant_as_links(self, text: str) -> None:
        assert not is_payment_link(text)

    def test_another_version_is_told_as_such(self) -> None:
        assert refusal_of(str(alter(LINK, "version"))) is Refusal.UNKNOWN_VERSION


class TestTheFields:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("merchant", "Books"),
            ("merchant", "books/pay"),
            ("merchant", "+"),
            ("bank", ""),
            ("bank", "n" * 33),
            ("fingerprint", bytes(31)),
            ("broker", "mqtt://a b"),
            ("broker", "mqtt://\x1b"),
            ("broker", ""),
            ("payreq", b""),
            ("payreq", bytes(MAX_PAYREQ + 1)),
            ("payreq", WORLD.payreq.encode()),
            ("payreq", Signed(b"no payment request", bytes(64)).encode()),
            ("payreq", signed(alter(WORLD.payreq, "amount", 0))),
            ("payreq", signed(alter(WORLD.payreq, "order", ()))),
        ],
    )
    def test_out_of_bounds_they_are_neither_read_nor_written(self, field: str, value: object) -> None:
        wrong = alter(LINK, field, value)
        assert refusal_of(str(wrong)) is Refusal.MALFORMED
        with pytest.raises(PeerError) as caught:
            PaymentLink.of(wrong.merchant, wrong.bank, wrong.fingerprint, wrong.broker, wrong.payreq)
        assert caught.value.refusal is Refusal.MALFORMED

    def test_each_of_them_makes_another_link(self) -> None:
        texts = {str(LINK)} | {str(alter(LINK, field)) for field in LINK.__struct_fields__}
        assert len(texts) == 1 + len(LINK.__struct_fields__)

    def test_what_nobody_has_signed_can_be_looked_at(self) -> None:
        forged = Signed(alter(WORLD.payreq, "amount", 1).encode(), bytes(64)).encode()
        assert PaymentLink.parse(str(alter(LINK, "payreq", forged))).unverified.amount == 1


def ordered(*lines: str) -> bytes:
    return signed(alter(WORLD.payreq, "order", lines))


class TestTheLength:
    def test_the_longest_of_everything_has_a_text(self) -> None:
        link = PaymentLink.of("m" * 32, "b" * 32, seed("bank"), "m" * 120, ordered(*["x" * 120] * 50))
        assert PaymentLink.parse(str(link)) == link
        longest = alter(link, "payreq", bytes(MAX_PAYREQ))
        assert len(str(longest).replace(SCHEME, "web+ecash://pay/")) <= MAX_LINK

    def test_an_order_too_long_for_a_link_has_none(self) -> None:
        with pytest.raises(PeerError) as caught:
            PaymentLink.of(SHOP, BANK, seed("bank"), BROKER, ordered(*["\u2665" * 120] * 50))
        assert caught.value.refusal is Refusal.MALFORMED

    def test_a_typical_link_makes_a_code_that_a_phone_reads(self) -> None:
        code = segno.make_qr(str(LINK).upper(), error="L", boost_error=False)
        assert len(str(LINK)) <= 500
        assert (code.mode, code.version) == ("alphanumeric", 12)

    def test_nineteen_lines_of_full_length_fit_into_a_code_and_twenty_do_not(self) -> None:
        nineteen, twenty = (alter(LINK, "payreq", ordered(*["x" * 120] * count)) for count in (19, 20))
        assert fits_qr(str(nineteen))
        assert not fits_qr(str(twenty))
