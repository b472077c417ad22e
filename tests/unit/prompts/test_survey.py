"""What is said of a file before anything is sent: sizes, what prompts share, what will go wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.tiny_gguf import write_tiny_gguf
from pipeline.core import traffic_size
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Dataset
from pipeline.models import assets
from pipeline.prompts import findings, survey
from support.records import make_config

Write = Callable[..., Config]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A configuration whose prompts have these texts, with what was found in the file."""

    def go(*prompts: str, changes: dict[str, object] | None = None, model: Path | None = None) -> Config:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        path.write_text("".join(json.dumps({"prompt": text, "output_tokens": 10}) + "\n" for text in prompts))
        config = make_config()
        served = replace(config.model, path=model or Path("none.gguf"), context_tokens=100)
        given = {"path": path, "scenarios": ("dataset",), **(changes or {})}
        traffic = replace(config.traffic, **given)  # type: ignore[arg-type]
        found = survey.of(traffic, served)
        runtime = replace(config.runtime, cache_reset="vllm_reset")
        return replace(config, model=served, runtime=runtime, traffic=replace(traffic, dataset=found))

    return go


def dataset(config: Config) -> Dataset:
    assert config.traffic.dataset is not None
    return config.traffic.dataset


def test_sizes_are_estimated_where_no_tokenizer_is_here(write: Write) -> None:
    found = dataset(write("a" * 40, "b" * 80, "c" * 400))
    assert not found.is_counted
    assert (found.input_tokens_longest, found.longest_tokens, found.longest_at) == (100, 110, 3)
    assert (found.least_tokens, found.output_tokens_mean) == (20, 10)
    assert found.input_tokens_mean == pytest.approx(520 / 12)


def test_sizes_are_counted_with_the_models_own_tokenizer(write: Write, tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "m.gguf")
    config = make_config()
    assets.prepare(replace(config.model, path=model))
    found = dataset(write("one two", "one two three four five six", model=model))
    assert found.is_counted
    assert found.input_tokens_longest > found.input_tokens_mean > 1


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["abcd", "abef", "xyzw"], 4 / 12),
        (["same", "same"], 1.0),
        (["one"], 0.0),
        (["abc", "abcdef"], 6 / 9),
        (["", "a"], 0.0),
    ],
)
def test_what_prompts_begin_alike_with_is_measured(texts: list[str], share: float) -> None:
    assert survey.shared_prefix(texts) == pytest.approx(share)


def rules(config: Config) -> dict[str, str]:
    return {one.rule: one.reason for one in findings.of(config)}


def test_prompts_that_are_sent_again_are_told(write: Write) -> None:
    told = rules(write("one", "two"))
    assert "the levels send 8 requests" in told["prompts_repeat"]  # 4 + 4
    assert not rules(write(*(f"number {i}" for i in range(8))))


def test_the_users_from_which_a_search_for_the_capacity_sends_prompts_again_are_told(write: Write) -> None:
    changes = {"levels": "capacity", "max_concurrency": 4, "min_requests": 2, "requests_per_user": 2}
    told = rules(write(*(f"number {i}" for i in range(5)), changes=changes))
    assert "a longer level sends some of them again" in told["prompts_repeat"]
    assert not rules(write(*(f"number {i}" for i in range(8)), changes=changes))


def test_a_prompt_beyond_the_context_is_told_with_its_line(write: Write) -> None:
    told = rules(write(*(f"number {i}" for i in range(8)), "x" * 1000))["prompt_exceeds_context"]
    assert "line 9 of " in told
    assert "has about 260 tokens with its answer, the model's context 100" in told


def test_too_few_prompts_to_warm_with_are_told(write: Write) -> None:
    texts = [f"number {i}" for i in range(8)]
    assert not rules(write(*texts, changes={"cache": "warm"}))
    assert "prompts_too_few_to_warm" in rules(write(*texts[:7], changes={"cache": "warm"}))


def test_a_cache_that_cannot_be_emptied_is_told_where_it_matters(write: Write) -> None:
    config = make_config()
    assert config.runtime.cache_reset == "none"
    assert not rules(config)
    shared = replace(config, traffic=replace(config.traffic, prefix_tokens=8))
    assert list(rules(shared)) == ["cache_stays"]
    emptied = replace(shared, runtime=replace(shared.runtime, cache_reset="sglang_flush"))
    assert not rules(emptied)
    own = write(*(f"number {i}" for i in range(8)))
    assert "cache_stays" in rules(replace(own, runtime=config.runtime))


def test_a_server_that_stays_keeps_the_prompts_of_a_file(write: Write) -> None:
    """Whatever its engine could do; those that are drawn are each trial's own."""
    plain = write(*(f"number {i}" for i in range(8)))
    there = replace(plain.backend, url="http://h", target="pipeline.backends.endpoint.Endpoint")
    own = replace(plain, backend=there, runtime=replace(plain.runtime, cache_reset="vllm_reset"))
    assert "every trial sends the same prompts of " in rules(own)["cache_stays"]
    shared = replace(own, traffic=replace(make_config().traffic, prefix_tokens=8))
    assert "backend=endpoint does not empty a server's prefix cache: a level that" in rules(shared)["cache_stays"]
    assert not rules(replace(own, traffic=make_config().traffic))


def test_drawn_prompts_have_nothing_to_tell() -> None:
    assert findings.of(make_config()) == ()
    assert list(findings.told(make_config().traffic)) == []


def test_a_file_is_told_in_one_line_and_by_its_hash(write: Write) -> None:
    traffic = write("one", "two", changes={"sample": 1}).traffic
    (line,) = findings.told(traffic)
    assert line.startswith("1 of 2 of ")
    assert "estimated: the model's tokenizer is not here yet" in line
    found = traffic.dataset
    assert found is not None
    assert f"sha256 {found.sha256[:12]}" in line
    assert f"1 of 2 prompts of 0.jsonl (sha256 {found.sha256[:12]}), cache cold" in traffic_size.told(traffic)


def test_nothing_is_refused_on_account_of_a_guess(write: Write) -> None:
    config = write("one", "x" * 1000)
    assert (traffic_size.least(config.traffic), traffic_size.certain(config.traffic)) == (1, 1)
    assert traffic_size.longest(config.traffic) == 260
    sure = replace(config.traffic, dataset=replace(dataset(config), is_counted=True))
    assert (traffic_size.least(sure), traffic_size.certain(sure)) == (11, 260)
