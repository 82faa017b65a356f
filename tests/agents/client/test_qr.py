import pytest

from agents.client.qr import drawn
from protocol.token import QR_CHARACTERS


def test_a_short_text_makes_a_small_drawing_of_lines_of_equal_width() -> None:
    drawing = drawn("ECASHREQ:ABC", 80)
    assert drawing is not None
    assert "█" in drawing or "▀" in drawing
    assert 10 < len(drawing.splitlines()) < 20


@pytest.mark.parametrize(("characters", "columns", "fits"), [(QR_CHARACTERS, 181, True), (QR_CHARACTERS, 180, False)])
def test_a_drawing_is_as_wide_as_its_code_and_its_margin(characters: int, columns: int, fits: bool) -> None:
    assert (drawn("A" * characters, columns) is not None) == fits


def test_what_no_code_holds_is_not_drawn() -> None:
    assert drawn("A" * (QR_CHARACTERS + 1), 1000) is None
