"""What the resident genai-bench is told of a level's prompts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import Chosen, Job, chosen, command
from pipeline.config import planning
from pipeline.core.plan import Assets
from pipeline.core.requests import Measurement, Request
from pipeline.core.schema import Config
from support.records import make_config, make_dataset

FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))


def config(**changes: Any) -> Config:
    made = make_config()
    return replace(made, traffic=replace(made.traffic, **changes))


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "p.jsonl"
    rows = [{"prompt": f"Ask {i}", "answer": f"Said {i}"} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": path, "scenarios": ("dataset",), "dataset": make_dataset()}


def jobs(made: Config) -> list[Job]:
    plan = planning.make(made, FILES, sweep_id="s", number=0, run_dir=Path("/runs/s/0"))
    calls = [command.job(made, plan, level, url="http://h", label="x") for level in plan.levels]
    pairs = zip(calls, plan.levels, strict=True)
    return [replace(job, chosen=chosen.of(made.traffic, level)) for job, level in pairs]


def test_prompts_without_anything_of_their_own_are_genai_benchs() -> None:
    assert {job.chosen for job in jobs(config())} == {None}


def test_each_level_sends_prompts_of_its_own(own: dict[str, Any]) -> None:
    first, second = (job.chosen for job in jobs(config(**own)))
    assert isinstance(first, Chosen)
    assert isinstance(second, Chosen)
    assert (len(first.asks), len(second.asks)) == (4, 4)
    assert not {one.messages for one in first.asks} & {one.messages for one in second.asks}
    ((_, text),) = first.asks[0].messages
    assert first.asks[0].answer == text.replace("Ask", "Said")
    assert (first.warming, first.ignore_eos) == ((), False)


def test_the_length_of_answers_can_be_set(own: dict[str, Any]) -> None:
    for job in jobs(config(**own, output_tokens=12, ignore_eos=True)):
        assert job.chosen is not None
        assert {one.answer for one in job.chosen.asks} == {12}
        assert job.chosen.ignore_eos


def test_own_prompts_are_warmed_with_others_of_the_file(own: dict[str, Any]) -> None:
    for job in jobs(config(**own, cache="warm")):
        assert job.chosen is not None
        assert chosen.count(job) == 4
        assert not {one.messages for one in job.chosen.asks} & {one.messages for one in job.chosen.warming}


@pytest.mark.parametrize(
    ("prefixes", "users", "count"), [(1, 1, 1), (1, 4, 4), (4, 1, 4), (4, 6, 8), (3, 3, 3)], ids=str
)
def test_each_prefix_is_sent_and_as_many_requests_as_there_are_users(prefixes: int, users: int, count: int) -> None:
    (job,) = jobs(config(prefix_tokens=8, prefixes=prefixes, cache="warm", concurrencies=(users,)))
    assert chosen.count(job) == count
    warming = chosen.warming(job, 12.0)
    assert (warming.warms, warming.timeout_s, job.warms) == (True, 12.0, False)


@pytest.mark.parametrize(
    ("changes", "longest"),
    [
        ({"prefix_tokens": 10}, 10),
        ({"prefix_ratio": 0.5}, 32),
        ({"prefix_ratio": 0.5, "scenarios": ("U(10,101)/(5,5)",)}, 51),
    ],
)
def test_a_prefix_is_made_for_the_longest_prompt(changes: dict[str, Any], longest: int) -> None:
    for job in jobs(config(**changes)):
        assert job.chosen is not None
        assert job.chosen.longest_prefix == longest


def words(made: Config) -> tuple[str, ...]:
    return jobs(made)[0].argv


def test_the_plain_command_is_given_genai_benchs_own_prefix() -> None:
    cli = config(prefix_tokens=10)
    cli = replace(cli, bench=replace(cli.bench, runner="cli"))
    assert words(cli)[words(cli).index("--prefix-len") + 1] == "10"
    ratio = replace(cli, traffic=replace(cli.traffic, prefix_tokens=None, prefix_ratio=0.5))
    assert words(ratio)[words(ratio).index("--prefix-ratio") + 1] == "0.5"
    assert not {"--prefix-len", "--prefix-ratio"} & {*words(config(prefix_tokens=10))}


def test_tokens_asked_for_are_those_that_were_sent(own: dict[str, Any]) -> None:
    given = config(**own).traffic
    level = next(planning.levels(config()))
    answered = Request(ttft_s=1.0, tpot_s=None, e2e_s=1.0, input_tokens=5, output_tokens=2)
    seen = Measurement(run_duration_s=1.0, requests=tuple(replace(answered, asked_tokens=asked) for asked in (4, 8)))
    assert chosen.asked(given, level, seen) == 6
    assert chosen.asked(given, level, replace(seen, requests=())) == level.output_tokens_asked
    assert chosen.asked(config().traffic, level, seen) == level.output_tokens_asked
