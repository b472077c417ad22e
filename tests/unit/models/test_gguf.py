"""The head of a GGUF file."""

from pathlib import Path

import pytest

from pipeline.models import gguf


def test_a_model_says_what_context_it_was_made_for(tiny_gguf: Path) -> None:
    assert gguf.context_tokens(tiny_gguf) == 4096


@pytest.mark.parametrize("cut", [0, 3, 4, 20, 60])
def test_a_file_that_is_cut_says_nothing(tiny_gguf: Path, tmp_path: Path, cut: int) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(tiny_gguf.read_bytes()[:cut])
    assert gguf.context_tokens(short) is None


def test_another_file_says_nothing(tmp_path: Path) -> None:
    other = tmp_path / "model.gguf"
    other.write_text("no model at all, but long enough to be looked into")
    assert gguf.context_tokens(other) is None


def test_a_file_that_is_missing_says_nothing(tmp_path: Path) -> None:
    assert gguf.context_tokens(tmp_path / "none.gguf") is None
