"""Several engines in one command: whose each override is, and what is said of those that nobody can have meant."""

from pathlib import Path

import pytest

from pipeline.config import command_line, expand, kinds, sides
from pipeline.config.expand import Trial
from pipeline.core.errors import ConfigError

BOTH = ("runtime=sglang,vllm", "hardware=h100", "model=qwen3_8b")


def shown(*overrides: str) -> list[Trial]:
    return list(expand.trials([*BOTH, *overrides], is_sweep=True))


def words(trials: list[Trial]) -> list[tuple[str, ...]]:
    return [trial.overrides for trial in trials]


def refusal(*overrides: str, is_sweep: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        command_line.check(command_line.spelled(overrides), is_sweep=is_sweep)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_engine_has_its_own_knobs_and_a_baseline() -> None:
    found = shown("sglang.page_size=32,64", "vllm.block_size=16,32")
    assert words(found) == [
        ("runtime=sglang", "page_size=null"), ("runtime=vllm", "block_size=null"),
        ("runtime=sglang", "page_size=32"), ("runtime=sglang", "page_size=64"),
        ("runtime=vllm", "block_size=16"), ("runtime=vllm", "block_size=32"),
    ]  # fmt: skip
    assert {trial.config.runtime.name for trial in found if "page_size" in trial.config.knobs} == {"sglang"}
    outline = command_line.check([*BOTH, "sglang.page_size=32,64", "vllm.block_size=16,32"], is_sweep=True)
    assert (outline.total, outline.without(["vllm"]).total) == (6, 3)
    assert outline.swept == ("runtime", "page_size", "block_size")


def test_a_knob_of_all_engines_needs_no_name_and_each_may_have_values_of_its_own() -> None:
    found = shown("kv_cache_dtype=null,fp8_e5m2", "vllm.kv_cache_dtype=fp8")
    assert words(found) == [
        ("runtime=sglang", "kv_cache_dtype=null"), ("runtime=vllm",),
        ("runtime=sglang", "kv_cache_dtype=fp8_e5m2"),
    ]  # fmt: skip
    assert [trial.config.knobs["kv_cache_dtype"] for trial in found] == [None, "fp8", "fp8_e5m2"]


def test_settings_of_one_engine_are_its_own() -> None:
    own = (
        "sglang.runtime.python=/s/bin/python",
        "vllm.model=llama31_8b",
        "+vllm.runtime.env.X=1",
        "runtime.extra_args=[]",
    )
    sglang, vllm = shown(*own)
    assert (sglang.config.runtime.python, vllm.config.runtime.python) == (Path("/s/bin/python"), None)
    assert (sglang.config.model.name, vllm.config.model.name) == ("qwen3_8b", "llama31_8b")
    assert "X" in vllm.config.runtime.env
    assert "X" not in sglang.config.runtime.env


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_what_is_swept_and_no_knob_may_be_one_engines_alone(engine: str) -> None:
    found = shown(f"{engine}.runtime.extra_args=[],[--x]", "hydra.sweeper.baseline=false")
    assert [trial.overrides[0] for trial in found].count(f"runtime={engine}") == 2
    assert len(found) == 3


def test_one_engine_alone_may_be_named_too() -> None:
    given = ["runtime=sglang", "sglang.page_size=32", "+sglang.runtime.env.X=1", "traffic.seed=2"]
    assert command_line.spelled(given) == ["runtime=sglang", "page_size=32", "+runtime.env.X=1", "traffic.seed=2"]
    assert command_line.spelled(["llamacpp.n_threads=2"]) == ["n_threads=2"]  # the default
    assert command_line.check(command_line.spelled(["llamacpp.n_threads=1,2"]), is_sweep=True).total == 3


def test_an_interval_or_a_number_of_trials_makes_a_search_of_all_engines() -> None:
    given = ("vllm.max_num_seqs=tag(log,int(interval(8,512)))", "sglang.page_size=32,64", "hydra.sweeper.n_trials=9")
    found = shown(*given)
    assert expand.is_drawn([*BOTH, *given])
    assert words(found)[:2] == [("runtime=sglang", "page_size=null"), ("runtime=vllm", "max_num_seqs=null")]
    assert len({trial.overrides for trial in found}) == len(found) == 9  # no combination twice
    assert refusal(*BOTH, given[0]).endswith("set hydra.sweeper.n_trials, timeout_s or gpu_hours.")


def test_an_experiment_says_it_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    params = "{runtime: 'sglang,vllm', sglang.page_size: '32,64', vllm: {block_size: 16, runtime: {python: /v/python}}}"
    text = f"# @package _global_\ndefaults: [override /hardware: h100]\nhydra: {{sweeper: {{params: {params}}}}}\n"
    (tmp_path / "experiment" / "both.yaml").write_text(text)
    given = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=both", "sglang.page_size=null,16"]
    found = list(expand.trials(given, is_sweep=True))
    assert words(found) == [("runtime=sglang", "page_size=null"), ("runtime=vllm",), ("runtime=sglang", "page_size=16")]
    assert (found[1].config.knobs["block_size"], found[1].config.runtime.python) == (16, Path("/v/python"))
    narrowed = list(expand.trials([*given[:2], "runtime=vllm", "block_size=null,32"], is_sweep=True))
    assert words(narrowed) == [("block_size=null",), ("block_size=32",)]  # the file's for sglang do not matter


def test_an_engine_in_a_section_of_a_file_is_told_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "both.yaml").write_text("# @package _global_\nsglang: {page_size: 32}\n")
    told = refusal(f"hydra.searchpath=[file://{tmp_path}]", "experiment=both", "runtime=sglang", is_sweep=False)
    assert "sglang: a file has what only this engine gets under hydra.sweeper.params: {sglang.<key>: <values>}" in told


def test_an_engine_of_ones_own_goes_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    text = "# @package _global_\ndefaults: [vllm, _self_]\nruntime: {version: 0.30.0}\n"
    (tmp_path / "runtime" / "older.yaml").write_text(text)
    searchpath = f"hydra.searchpath=[file://{tmp_path}]"
    given = [searchpath, "runtime=vllm,older", "hardware=h100", "older.max_num_seqs=64", "vllm.max_num_seqs=128"]
    found = list(expand.trials(given, is_sweep=True))
    assert [(t.config.runtime.version, t.config.knobs["max_num_seqs"]) for t in found] == [
        ("0.33.0", 128),
        ("0.30.0", 64),
    ]
    told = refusal(searchpath, "runtime=vllm", "older.max_num_seqs=64")
    assert "older is not an engine of this command, which has runtime=vllm" in told


def test_the_kinds_of_trials_are_told_engine_by_engine() -> None:
    given = [*BOTH, "sglang.tp_size=1,2", "vllm.runtime.python=/v/python"]
    found = kinds.by_engine(given, 10)
    assert [len(some) for some in found.values()] == [3, 1]
    assert [config.runtime.python for config in found["vllm"]] == [Path("/v/python")]


MISTAKES = {
    "a-knob-of-one-engine": (
        ["max_num_seqs=32,64"],
        "max_num_seqs is no knob of sglang. For vllm alone, write vllm.max_num_seqs=32,64",
    ),
    "a-fixed-knob-of-one-engine": (
        ["page_size=32"],
        "page_size is no knob of vllm. For sglang alone, write sglang",
    ),
    "an-interval-of-one-engine": (["max_num_seqs=int(interval(1,64))"], "'vllm.max_num_seqs=int(interval(1,64))'"),
    "a-value-of-one-engine": (
        ["attention_backend=null,flashinfer"],
        "Values for one engine are written under its name: vllm.attention_backend=...",
    ),
    "a-misspelt-engine": (["sgalng.page_size=32"], "Did you mean sglang?"),
    "a-misspelt-knob": (
        ["sglang.page_sizes=32"],
        "page_sizes is not a knob of runtime=sglang. Did you mean page_size?",
    ),
    "another-engines-knob": (["sglang.block_size=32"], "It is a knob of runtime=vllm."),
    "an-engine-that-is-not-there": (
        ["llamacpp.n_threads=2"],
        "llamacpp is not an engine of this command, which has runtime=sglang,vllm. Leave it out, or add the engine",
    ),
    "other-traffic-for-one": (["vllm.traffic.seed=2"], "traffic is the same for all engines"),
    "another-slo-for-one": (["vllm.slo=interactive"], "slo is the same for all engines"),
    "the-sweeper-of-one": (["vllm.hydra.sweeper.n_trials=3"], "hydra is the same for all engines"),
    "other-hardware-for-one": (["vllm.hardware=cpu"], "hardware is the same for all engines"),
    "an-engine-of-an-engine": (["vllm.runtime=sglang"], "an engine cannot stand for another one"),
    "a-section-that-is-none": (["vllm.env.X=1"], "those are runtime, model, backend, timeouts, and its knobs"),
    "a-wrong-value": (["vllm.block_size=abc"], "runtime=vllm: block_size=abc: expected an integer"),
    "another-sweeper": (["hydra/sweeper=basic", "vllm.block_size=16"], "keys of one engine need hydra/sweeper=tuner"),
}


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_what_to_write(overrides: list[str], expected: str) -> None:
    assert expected in refusal(*BOTH, *overrides)


def test_other_sweepers_go_through_several_engines_as_before() -> None:
    outline = command_line.check([*BOTH, "hydra/sweeper=basic", "kv_cache_dtype=null,fp8_e5m2"], is_sweep=True)
    assert (outline.total, outline.knobs) == (4, {})


def test_hydra_gets_what_it_can_make_a_tree_of_and_the_sweeper_everything() -> None:
    knobs = {"sglang": frozenset({"page_size", "tp_size"}), "vllm": frozenset({"block_size"})}
    given = ["runtime=sglang,vllm", "tp_size=2", "+vllm.runtime.env.X=1", "traffic=chat", "hydra.sweeper.n_trials=3"]
    argv, task = sides.parted(["servetune", "-m", *given], given, knobs)
    assert argv == ["servetune", "-m", "runtime=sglang,vllm", "traffic=chat", "hydra.sweeper.n_trials=3"]
    assert task == given[:-1]
