import re

from protocol.refusals import TABLE, Advice, Refusal


def test_the_table_has_every_code_in_the_order_of_precedence() -> None:
    assert list(TABLE) == list(Refusal)


def test_every_code_fits_into_an_answer_and_a_verdict() -> None:
    for refusal in Refusal:
        assert re.fullmatch(r"[a-z_]{1,40}", refusal.value)
        assert refusal.value == refusal.name.lower()


def test_every_meaning_is_a_sentence_of_its_own() -> None:
    meanings = [entry.meaning for entry in TABLE.values()]
    assert len(set(meanings)) == len(meanings)
    for meaning in meanings:
        assert re.fullmatch(r"[A-Z].*\.", meaning)


def test_only_what_passes_by_itself_is_worth_asking_again() -> None:
    assert {refusal for refusal, entry in TABLE.items() if entry.advice is Advice.RETRY} == {
        Refusal.OVERLOADED,
        Refusal.PENDING,
    }
