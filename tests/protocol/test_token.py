import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_MESSAGE
from protocol.coins import MAX_COINS
from protocol.envelope import EnvelopePrivateKey, Suite
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.refusals import Refusal
from protocol.token import (
    MAX_MEMO,
    PREFIX_BYTES,
    QR_COINS,
    Acknowledgement,
    Token,
    TokenCoin,
    TokenRequest,
    check_memo,
    coins_of,
    fits_qr,
    new_request,
    open_acknowledgement,
    seal_acknowledgement,
)
from tests.world import BANK, NOW, World, alter, altered, seed

FINGERPRINT = seed("fingerprint")
BROKER = "mqtt://broker.example:1883"
KEY = EnvelopePrivateKey(Suite.X25519, seed("inbox")).public


@pytest.fixture
def token(world: World) -> Token:
    return Token.of(BANK, FINGERPRINT, BROKER, "USD", "for the tea", world.purse.pairs)


def request(amount: int = 500, memo: str = "tea") -> TokenRequest:
    return new_request((BANK, FINGERPRINT, BROKER), "USD", amount, memo, (seed("client")[:16].hex(), KEY), NOW)


def sized(coins: int, names: int, memo: str) -> Token:
    """A token of made-up coins; `names` characters for bank and broker together."""
    coin = TokenCoin(bytes(PREFIX_BYTES), bytes(256), bytes(32))
    return Token(1, "b" * 8, FINGERPRINT, "m" * (names - 8), "USD", memo, (coin,) * coins)


def refusal_of(text: str) -> Refusal:
    with pytest.raises(PeerError) as caught:
        Token.parse(text)
    return caught.value.refusal


class TestTheText:
    def test_what_was_written_is_read(self, token: Token) -> None:
        assert Token.parse(str(token)) == token
        assert TokenRequest.parse(str(request())) == request()

    def test_case_and_line_breaks_do_not_matter(self, token: Token) -> None:
        text = str(token).lower()
        broken = "\r\n".join(text[i : i + 60] for i in range(0, len(text), 60))
        assert Token.parse(f"  {broken}\t\n") == token
        assert TokenRequest.parse(str(request()).swapcase()) == request()

    def test_a_code_of_letters_and_digits_holds_the_most_coins_that_are_promised(self) -> None:
        largest = str(sized(QR_COINS, 80, "m" * MAX_MEMO))
        code = segno.make_qr(largest, error="L", boost_error=False)
        assert (code.mode, code.version, code.error) == ("alphanumeric", 40, "L")
        assert fits_qr(largest)
        one_more = str(sized(QR_COINS + 1, 12, ""))
        assert not fits_qr(one_more)
        with pytest.raises(segno.DataOverflowError):
            segno.make_qr(one_more, error="L")

    def test_the_bound_is_that_of_the_largest_code(self) -> None:
        assert segno.make_qr("A" * 4296, error="L", boost_error=False).version == 40
        with pytest.raises(segno.DataOverflowError):
            segno.make_qr("A" * 4297, error="L")

    def test_a_request_makes_a_small_code(self) -> None:
        code = segno.make_qr(str(request()), error="L", boost_error=False)
        assert code.mode == "alphanumeric"
        assert int(code.version) <= 12

    def test_a_token_of_the_most_coins_has_a_text(self) -> None:
        most = sized(MAX_COINS, 100, "m" * MAX_MEMO)
        assert Token.parse(str(most)) == most

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ECASH:",
            "ECASH",
            "A",
            "ECASH:1",
            "ECASH:A",
            "ECASH:AAAAAAAA",
            "ECASH:É",
            "ECASH:MFRGG===",
            "ECASHREQ:MFRGG",
            "ECASH:" + "A" * 2 * MAX_MESSAGE,
        ],
    )
    def test_what_is_no_token_is_refused(self, text: str) -> None:
        assert refusal_of(text) == Refusal.MALFORMED

    def test_a_token_is_no_request(self, token: Token) -> None:
        with pytest.raises(PeerError):
            TokenRequest.parse(str(token))
        assert refusal_of(str(request())) == Refusal.MALFORMED

    def test_bits_to_spare_are_refused(self, token: Token) -> None:
        """Else one token would have several texts."""
        odd = next(t for t in (alter(token, "memo", "m" * n) for n in range(5)) if len(t.encode()) % 5 == 1)
        text = str(odd)
        other = text[:-1] + chr(ord(text[-1]) + 1)
        assert refusal_of(other) == Refusal.MALFORMED

    @given(cut=st.integers(1, 1000))
    def test_a_cut_token_is_refused(self, cut: int) -> None:
        text = str(sized(1, 40, "memo"))
        assert refusal_of(text[: max(0, len(text) - cut)]) == Refusal.MALFORMED

    @given(data=st.binary(max_size=400))
    def test_hostile_bytes_raise_nothing_else(self, data: bytes) -> None:
        for read in (Token.read, TokenRequest.decode, Acknowledgement.decode):
            with pytest.raises(PeerError):
                read(data)

    @given(text=st.text(max_size=60))
    def test_hostile_text_raises_nothing_else(self, text: str) -> None:
        for scheme in ("ECASH:", "ECASHREQ:", ""):
            for read in (Token.parse, TokenRequest.parse):
                with pytest.raises(PeerError):
                    read(scheme + text)

    def test_another_version_is_told_as_such(self, token: Token) -> None:
        assert refusal_of(str(alter(token, "version"))) == Refusal.UNKNOWN_VERSION
        with pytest.raises(PeerError) as caught:
            TokenRequest.parse(str(alter(request(), "version")))
        assert caught.value.refusal == Refusal.UNKNOWN_VERSION

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("bank", "North"),
            ("fingerprint", bytes(31)),
            ("broker", "mqtt://a b"),
            ("broker", ""),
            ("currency", "usd"),
            ("memo", "m" * 121),
            ("memo", "\x1b[2J"),
            ("memo", "\u202eevil"),
            ("coins", ()),
        ],
    )
    def test_fields_out_of_bounds_are_refused(self, token: Token, field: str, value: object) -> None:
        assert refusal_of(str(alter(token, field, value))) == Refusal.MALFORMED

    @pytest.mark.parametrize(
        ("field", "value"),
        [("inbox", "a/b"), ("inbox", "+"), ("key", bytes(33)), ("amount", -1), ("memo", "\x1b[2J")],
    )
    def test_fields_of_a_request_out_of_bounds_are_refused(self, field: str, value: object) -> None:
        with pytest.raises(PeerError) as caught:
            TokenRequest.parse(str(alter(request(), field, value)))
        assert caught.value.refusal == Refusal.MALFORMED


@pytest.mark.parametrize("memo", ["m" * 121, "two\nlines", "\x07"])
def test_a_memo_that_a_terminal_may_not_show_is_refused(memo: str) -> None:
    with pytest.raises(PeerError):
        check_memo(memo)
    with pytest.raises(PeerError):
        request(memo=memo)


class TestTheCoins:
    def test_they_come_back_with_their_keys(self, world: World, token: Token) -> None:
        assert coins_of(token, world.ring) == world.purse.pairs

    @pytest.mark.parametrize(
        ("field", "refusal"),
        [("denomination", Refusal.UNKNOWN_DENOMINATION), ("signature", Refusal.BAD_COIN), ("seed", Refusal.BAD_COIN)],
    )
    def test_an_altered_coin_is_refused(self, world: World, token: Token, field: str, refusal: Refusal) -> None:
        for index, coin in enumerate(token.coins):
            coins = (*token.coins[:index], alter(coin, field), *token.coins[index + 1 :])
            with pytest.raises(PeerError) as caught:
                coins_of(alter(token, "coins", coins), world.ring)
            assert caught.value.refusal == refusal

    def test_a_coin_under_another_value_is_refused(self, world: World, token: Token) -> None:
        dear = world.ids["USD", 500][:PREFIX_BYTES]
        coins = (alter(token.coins[0], "denomination", dear), *token.coins[1:])
        with pytest.raises(PeerError) as caught:
            coins_of(alter(token, "coins", coins), world.ring)
        assert caught.value.refusal == Refusal.BAD_COIN

    def test_a_coin_of_another_currency_is_refused(self, world: World, token: Token) -> None:
        with pytest.raises(PeerError) as caught:
            coins_of(alter(token, "currency", "EUR"), world.ring)
        assert caught.value.refusal == Refusal.WRONG_CURRENCY

    def test_a_coin_that_stands_twice_is_refused(self, world: World, token: Token) -> None:
        with pytest.raises(PeerError) as caught:
            coins_of(alter(token, "coins", (*token.coins, token.coins[0])), world.ring)
        assert caught.value.refusal == Refusal.DUPLICATE_COIN

    def test_a_prefix_that_names_two_denominations_names_none(
        self, world: World, token: Token, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = world.purse.coins[0].denomination
        twins = {*world.ring.ids, first[:PREFIX_BYTES] + bytes(24)}
        monkeypatch.setattr(KeyRing, "ids", twins)
        with pytest.raises(PeerError) as caught:
            coins_of(token, world.ring)
        assert caught.value.refusal == Refusal.UNKNOWN_DENOMINATION


def test_each_field_makes_another_token(token: Token) -> None:
    hashes = {token.hash} | {alter(token, field).hash for field in token.__struct_fields__}
    assert len(hashes) == 1 + len(token.__struct_fields__)


def test_a_request_is_sealed_for_by_its_key() -> None:
    assert request().envelope_key == KEY


class TestAcknowledgements:
    key, request_id, about = seed("answer key"), b"i" * 16, seed("token")

    @pytest.mark.parametrize("told", [Acknowledgement("", ""), Acknowledgement("already_spent", "one coin")])
    def test_who_has_the_key_reads_it(self, told: Acknowledgement) -> None:
        sealed = seal_acknowledgement(self.key, self.request_id, self.about, told)
        assert open_acknowledgement(self.key, self.about, sealed) == told

    def test_it_is_bound_to_key_and_token_and_letter(self) -> None:
        sealed = seal_acknowledgement(self.key, self.request_id, self.about, Acknowledgement("", ""))
        attempts = [
            (altered(self.key), self.about, sealed),
            (self.key, altered(self.about), sealed),
            (self.key, self.about, altered(sealed)),
            (self.key, self.about, sealed[:1] + altered(sealed[1:17]) + sealed[17:]),
            (self.key, self.about, b""),
        ]
        for key, about, data in attempts:
            with pytest.raises(PeerError):
                open_acknowledgement(key, about, data)
