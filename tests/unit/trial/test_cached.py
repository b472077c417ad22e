"""cache=read: what another sweep measured of the very same trial answers, marked; anything else does not."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.files import RunDir, save
from pipeline.core.places import CONF
from pipeline.trial import cached
from support.cli import Result, pipeline
from support.records import make_config, make_record

READ = "cache=read"


@pytest.fixture
def sweep(tmp_path: Path, tiny_gguf: Path) -> Any:
    """Run a sweep in a folder of one root; the model is older than all of them."""
    model = tmp_path / "tiny.gguf"
    model.write_bytes(tiny_gguf.read_bytes())
    os.utime(model, (time.time() - 60,) * 2)

    def go(name: str, *overrides: str, **env: str) -> Result:
        return pipeline(*overrides, folder=tmp_path / "outputs" / name, gguf=model, sweep=True, env=env)

    return go


def deployed(result: Result) -> list[bool]:
    return [any(step.step == "deploy" for step in record.steps) for record in result.records]


def test_another_sweep_answers_and_it_is_marked(sweep: Any) -> None:
    first = sweep("one", "parallel=2,4")
    second = sweep("two", "parallel=4,6", READ)
    assert (first.code, second.code) == (0, 0), second.err
    assert deployed(second) == [False, True]
    taken, new = second.records
    assert (taken.cached_from, new.cached_from) == ("one/1", None)
    assert taken.levels == first.records[1].levels
    assert taken.objective == first.records[1].objective
    assert "cached: measured as trial one/1 of another sweep" in taken.notes
    assert "cached: measured by an earlier sweep." in second.out
    third = sweep("three", "parallel=4,6", READ)
    assert [record.cached_from for record in third.records] == ["one/1", "two/1"]  # not by way of sweep two


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ((), "off by default"),
        ((READ, "traffic.seed=7"), "other prompts"),
        ((READ, "traffic.concurrencies=[1]"), "other load"),
        ((READ, "+runtime.env.OMP=spread"), "another environment of the engine"),
    ],
)
def test_anything_else_is_measured(sweep: Any, overrides: tuple[str, ...], why: str) -> None:
    sweep("one", "parallel=2,4")
    second = sweep("two", "parallel=2,4", *overrides)
    assert deployed(second) == [True, True], why


def test_a_model_that_has_changed_is_measured(sweep: Any, tmp_path: Path) -> None:
    sweep("one", "parallel=2")
    (tmp_path / "tiny.gguf").touch()
    assert deployed(sweep("two", "parallel=2", READ)) == [True]


def test_a_search_goes_on_with_what_the_cache_knows(sweep: Any) -> None:
    sweep("one", "parallel=2,4,8", STUB_BENCH_RATE="slots")
    words = ("hydra/sweeper=tuner", "parallel=2,4,8", "hydra.sweeper.confirm=1", READ)
    second = sweep("two", *words, STUB_BENCH_RATE="slots")
    assert deployed(second) == [True, False, False, False, True, True]  # the baseline, three known ones, one round
    assert [record.repeat_of for record in second.records[4:]] == [3, 0]


def test_a_mistake_is_told(sweep: Any) -> None:
    result = sweep("one", "parallel=2", "cache=write")
    assert (result.code, "cache=write: expected read, or null" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["runtime=sglang", "model=qwen3_8b", "backend=docker"], "the image lmsysorg/sglang"),
        (["runtime=sglang", "model=qwen3_8b", "model.revision=main"], "model.revision=main is not a commit"),
        (["n_threads=2"], None),
    ],
)
def test_what_may_be_something_else_today_is_not_asked(overrides: list[str], reason: str | None) -> None:
    with initialize_config_dir(str(CONF)):
        told = cached.unpinned(to_config(composed(overrides)))
    assert (told or "").startswith(reason or "")
    assert (told is None) == (reason is None)


def test_only_what_was_measured_alone_and_in_full_may_answer() -> None:
    fine = make_record()
    assert cached.may_answer(fine)
    crowd = "warned: 1 other trial ran on this machine meanwhile and shared CPU cores"
    for worse in ({"status": "failed"}, {"same_as": 1}, {"repeat_of": 1}, {"cached_from": "a/1"}, {"notes": (crowd,)}):
        assert not cached.may_answer(replace(fine, **worse))


def test_deadlines_and_trackers_do_not_matter_but_machines_and_knobs_do() -> None:
    config, here = make_config(), {"cpu": "a", "gpu": "8 x b"}
    same = replace(config, timeouts=replace(config.timeouts, deploy_s=99), tracker=replace(config.tracker, name="x"))
    one = cached.key(config, config.knobs, here)
    assert cached.key(same, config.knobs, {**here, "python": "3.12"}) == one
    assert cached.key(config, config.knobs, {**here, "gpu": "8 x c"}) != one
    assert cached.key(config, {**config.knobs, "page_size": 64}, here) != one


def test_a_record_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVETUNE_CACHE_DIR", str(tmp_path / "cache"))
    run_dir = RunDir(tmp_path / "out" / "sweep" / "0")
    run_dir.path.mkdir(parents=True)
    save(run_dir.record, make_record())
    first = cached._index(tmp_path / "out")
    monkeypatch.setattr(cached, "_key", lambda path: pytest.fail(f"{path} is read again"))
    assert cached._index(tmp_path / "out") == first
    assert len(first) == 1
