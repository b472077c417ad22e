"""Words for people."""

import pytest

from pipeline.core.words import listed, meant, visible


@pytest.mark.parametrize(
    ("word", "told"),
    [("flashinfr", " Did you mean flashinfer?"), ("FA3", " Did you mean fa3?"), ("zzz", ""), ("fa3", ""), (3, "")],
)
def test_a_word_that_is_close_is_offered(word: object, told: str) -> None:
    assert meant(word, ["flashinfer", "fa3", "triton"]) == told


def test_of_many_words_those_are_told_that_are_alike() -> None:
    many = [f"knob_{number}_of_many" for number in range(70)]
    assert listed("x", ["a", "b"], by="help") == "a, b"
    told = listed("knob_7_of_mny", many, by="servetune knobs")
    assert told.startswith("knob_7_of_many, ")
    assert told.endswith(" and 62 more (servetune knobs lists them)")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("50%\r100%\r\ndone", "50%\\r100%\ndone"),
        ("a\x9b31mb\x7f", "a\\x9b31mb\\x7f"),
        ("txt\u202efdp", "txt\\u202efdp"),
        ("é → 日本\tx\ny", "é → 日本\tx\ny"),
    ],
    ids=["colour", "clear", "title", "return", "c1", "direction", "letters"],
)
def test_control_characters_are_seen_and_not_obeyed(text: str, shown: str) -> None:
    assert visible(text) == shown
