"""The file as a whole: which prompts come of it, and that it is the same file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import dealing, own
from pipeline.prompts.shapes import Prompt
from support.records import make_config

Write = Callable[..., Traffic]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def go(count: int, **changes: object) -> Traffic:
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Ask {i}", "output_tokens": i}) + "\n" for i in range(count)))
        return replace(make_config().traffic, path=path, scenarios=("dataset",), **changes)  # type: ignore[arg-type]

    return go


def texts(prompts: tuple[Prompt, ...]) -> list[str]:
    return [one.text for one in prompts]


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_order(write: Write) -> None:
    first, again, other = (own.read(write(100, sample=10, seed=seed)) for seed in (1, 1, 2))
    assert len(first.prompts) == 10
    assert first.in_file == 100
    assert texts(first.prompts) == texts(again.prompts) != texts(other.prompts)
    assert [one.at for one in first.prompts] == sorted(one.at for one in first.prompts)
    assert len(own.read(write(5, sample=10)).prompts) == 5


def test_the_same_name_may_be_another_file_later(write: Write) -> None:
    traffic = write(3)
    before = own.read(traffic)
    assert own.read(traffic) is before
    after = own.read(write(4))
    assert (after.in_file, after.sha256 != before.sha256) == (4, True)


def test_a_file_that_has_changed_is_refused_where_it_was_tied(write: Write) -> None:
    traffic = write(3)
    tied = replace(traffic, sha256=own.read(traffic).sha256[:12])
    own.insist_unchanged(tied)
    own.insist_unchanged(None)
    write(4)
    with pytest.raises(ConfigError, match="is another file than before: its SHA-256 begins with"):
        own.insist_unchanged(tied)


def test_a_bad_line_is_told_with_its_file_and_number(write: Write) -> None:
    traffic = write(2)
    assert traffic.path is not None
    traffic.path.write_text(f"{traffic.path.read_text()}\n{{}}\n")
    with pytest.raises(ConfigError, match=r"p\.jsonl, line 4: none of the fields"):
        own.read(traffic)
    traffic.path.write_text("\n")
    with pytest.raises(ConfigError, match=r"p\.jsonl has no prompt: it is empty"):
        own.read(traffic)


def test_conversations_without_a_question_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": []}]))
    traffic = replace(make_config().traffic, path=path, scenarios=("dataset",))
    assert (own.read(traffic).in_file, own.read(traffic).left_out) == (1, 1)
    path.write_text(json.dumps([{"conversations": []}]))
    with pytest.raises(ConfigError, match="all 1 conversations in it are without a question"):
        own.read(traffic)


def test_levels_are_dealt_the_same_prompts_again_and_others_than_each_other(write: Write) -> None:
    traffic = write(20)
    first, again, next_one = (dealing.dealt(traffic, start, 8) for start in (0, 0, 8))
    assert texts(first) == texts(again)
    assert not set(texts(first)) & set(texts(next_one))
    assert texts(first) != sorted(texts(first), key=len)  # not as they lie in the file
    assert texts(dealing.dealt(traffic, 16, 8))[4:] == texts(first)[:4]  # it begins again
    assert texts(dealing.dealt(replace(traffic, seed=9), 0, 8)) != texts(first)


@pytest.mark.parametrize(("count", "warming"), [(20, 8), (10, 2), (8, 0), (4, 0)])
def test_what_warms_a_cache_is_none_of_the_level(write: Write, count: int, warming: int) -> None:
    traffic = write(count)
    beside = texts(dealing.beside(traffic, 0, 8))
    assert len(beside) == len(set(beside)) == warming
    assert not set(beside) & set(texts(dealing.dealt(traffic, 0, 8)))
