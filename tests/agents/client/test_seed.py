import msgspec
import pytest

from agents.client.seed import SealedSeed, WrongPassphrase, entropy_of, open_seed, root_of, seal_seed, words_of

ENTROPY = bytes(range(16))


def sealed(passphrase: str = "correct horse") -> SealedSeed:
    return seal_seed(ENTROPY, passphrase, b"s" * 16, b"n" * 24, hard=False)


def test_the_words_are_those_of_bip_39() -> None:
    assert words_of(bytes(16)) == "abandon " * 11 + "about"


def test_words_come_back_however_they_were_typed() -> None:
    assert entropy_of(f"  {words_of(ENTROPY).upper()}\n") == ENTROPY


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("", "these are 0"),
        ("hello world", "these are 2"),
        ("abandon " * 23 + "art", "these are 24"),
        ("abandon " * 11 + "abuot", "word 12 is misspelt.*perhaps about"),
        ("abandon " * 11 + "zzzzzzz", "word 12 is misspelt.*another one"),
        ("abandon " * 12, "one is wrong, or two are swapped"),
    ],
)
def test_words_that_are_wrong_are_told_and_where_to_look(words: str, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        entropy_of(words)


def test_the_passphrase_opens_the_seed_and_no_other_does() -> None:
    stored = SealedSeed.decode(sealed().encode())
    assert open_seed(stored, "correct horse") == ENTROPY
    for wrong in ("", "Correct horse", "correct horse "):
        with pytest.raises(WrongPassphrase):
            open_seed(stored, wrong)


def test_a_seed_that_was_altered_does_not_open() -> None:
    ciphertext = bytes([sealed().ciphertext[0] ^ 1]) + sealed().ciphertext[1:]
    with pytest.raises(WrongPassphrase):
        open_seed(msgspec.structs.replace(sealed(), ciphertext=ciphertext), "correct horse")


def test_one_seed_is_one_wallet() -> None:
    assert root_of(ENTROPY).account(bytes(32)) == root_of(ENTROPY).account(bytes(32))
    assert root_of(ENTROPY).account(bytes(32)) != root_of(bytes(16)).account(bytes(32))
