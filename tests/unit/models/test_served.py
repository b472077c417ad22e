"""The tokenizer for prompts of a model that somebody serves: its own where it is known, else one that comes near."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.core.errors import ModelError
from pipeline.core.schema import Config, Model
from pipeline.models import served
from support.records import make_config

MODEL = Model(name="served", served_name="served")
TEXTS = ["Shall I compare thee to a summer's day?", "naïve 日本語 🙂\n\ttabs", "x" * 50, ""]


def config(model: Model) -> Config:
    return replace(make_config(), model=model)


def test_without_a_word_of_the_model_one_is_made_once(tmp_path: Path) -> None:
    folder = served.tokenizer(MODEL)
    before = (folder / "tokenizer.json").stat().st_mtime_ns
    assert served.tokenizer(MODEL) == folder
    assert (folder / "tokenizer.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_it_gives_back_every_text_and_counts_about_as_models_do(tmp_path: Path) -> None:
    made = Tokenizer.from_file(str(served.stand_in(tmp_path) / "tokenizer.json"))
    assert [made.decode(made.encode(text).ids) for text in TEXTS] == TEXTS
    sonnets = served._sonnets().read_text("utf-8")
    assert 3.5 < len(sonnets) / len(made.encode(sonnets).ids) < 4.5


def test_what_is_lost_is_said_and_only_then() -> None:
    (found,) = served.findings(config(MODEL))
    assert found.verdict == "warned"
    assert "Set model.tokenizer" in found.reason
    assert served.findings(config(replace(MODEL, repo="org/model"))) == ()


def test_a_file_has_the_tokenizer_of_its_model(tiny_gguf: Path) -> None:
    model = replace(MODEL, path=tiny_gguf)
    assert str(tiny_gguf) in served.check(model)
    assert (served.tokenizer(model) / "tokenizer.json").is_file()


def test_a_repository_is_named_and_not_fetched_for_the_check() -> None:
    assert served.check(replace(MODEL, repo="org/model")) == "its tokenizer is that of org/model"
    assert served.check(MODEL) == "prompts are cut with a tokenizer of our own"


@pytest.mark.parametrize("name", ["/no/such/folder", "./none"])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        served.check(replace(MODEL, tokenizer=name))
