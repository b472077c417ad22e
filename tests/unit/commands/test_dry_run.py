"""`dry_run=true`: every trial told, nothing started or written."""

import sys
from pathlib import Path

import pytest
import yaml

from parts.nvml import Machine
from pipeline import dry_run
from pipeline.config import expand
from pipeline.machine import memory
from pipeline.trial import hardware
from support.cli import Result, pipeline
from support.places import STUB_ENGINE


def dry(*overrides: str, tmp_path: Path, gguf: Path, sweep: bool = True) -> Result:
    return pipeline("dry_run=true", *overrides, folder=tmp_path / "out", gguf=gguf, sweep=sweep)


def test_every_trial_is_told_and_nothing_is_left(tmp_path: Path, tiny_gguf: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = dry("parallel=3,4,13", tmp_path=tmp_path, gguf=tiny_gguf)
    assert result.code == 0, result.err
    assert sorted(tmp_path.rglob("*")) == before
    lines = [line.strip() for line in result.out.splitlines()]
    assert [line for line in lines if line.startswith("trial")] == [
        "trial 0  parallel=3", "trial 1  parallel=4", "trial 2  parallel=13"
    ]  # fmt: skip
    assert [line.split(":")[0] for line in lines if line.startswith("verdict")] == [
        "verdict  rewritten", "verdict  ok", "verdict  refused"
    ]  # fmt: skip
    assert "the same as trial 0: not deployed again, its result counts for both" in lines
    assert "refused: the stub cannot count to 13: take 12 [unlucky; tests/fakes/stub_engine.py]" in lines
    assert lines[-1].startswith("3 trials: 1 rewritten, 1 refused, 1 shared.")
    assert lines[-1].endswith("Nothing was started or written.")


def test_the_command_is_the_one_that_would_run(tmp_path: Path, tiny_gguf: Path) -> None:
    words = ("parallel=4", "load_s=0.5", "+runtime.env.A='x y'")
    result = dry(*words, tmp_path=tmp_path, gguf=tiny_gguf, sweep=False)
    (line,) = (line for line in result.out.splitlines() if line.startswith("  server"))
    engine = STUB_ENGINE
    assert line == f"  server   A='x y' {sys.executable} {engine} --port PORT --parallel 4 --load-s 0.5"
    assert "  levels   D(48,16) x1, x4 (4 + 8 requests)" in result.out.splitlines()


def test_what_a_search_for_the_capacity_may_try_is_told(tmp_path: Path, tiny_gguf: Path) -> None:
    words = ("parallel=4", "traffic.levels=capacity", "traffic.max_concurrency=64", "slo.ttft_s=1")
    told = dry(*words, tmp_path=tmp_path, gguf=tiny_gguf, sweep=False).out.splitlines()
    asked = "the most users inside the SLO, from x1 on, of at most x64, within 5%, in at most 15 levels each"
    assert f"  levels   D(48,16): {asked}" in told


def test_the_limit_of_a_trial_is_stated(tmp_path: Path, tiny_gguf: Path) -> None:
    told = dry("parallel=4", "hardware=cpu", tmp_path=tmp_path, gguf=tiny_gguf, sweep=False).out
    (line,) = (line for line in told.splitlines() if line.startswith("  limit"))
    assert "(timeouts.trial_s, the sum of the limits of its steps and repeats); downloads and waiting" in line
    short = dry("timeouts.trial_s=5", "parallel=null,4", tmp_path=tmp_path, gguf=tiny_gguf).out
    assert short.count("  limit    5 s (timeouts.trial_s); ") == 2
    assert short.count("warned: timeouts.trial_s=5, but the levels may take ") == 2
    assert "One after the other: at most 10 s." in short


def test_a_knob_that_this_traffic_cannot_reward_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["runtime=vllm", "model=qwen3_8b", "hardware=h100", "enable_prefix_caching=null,true,false"]
    assert dry_run.show(words, is_sweep=True)
    told = capsys.readouterr().out
    verdicts = [line.split(":")[0] for line in told.splitlines() if line.startswith("  verdict")]
    assert verdicts == ["  verdict  ok", "  verdict  warned", "  verdict  warned"]
    assert told.count("warned: enable_prefix_caching: this traffic cannot show what the prefix cache is worth") == 2


def test_a_command_of_which_nothing_would_start_fails(tmp_path: Path, tiny_gguf: Path) -> None:
    assert dry("parallel=13", tmp_path=tmp_path, gguf=tiny_gguf, sweep=False).code == 1


def test_a_bad_value_is_refused_as_ever(tmp_path: Path, tiny_gguf: Path) -> None:
    result = dry("parallel=4,0", tmp_path=tmp_path, gguf=tiny_gguf)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: parallel=0: expected an integer, 1 or more")


CLUSTER = ("backend=ome", "runtime=vllm", "model=qwen3_8b", "hardware=h100")


def test_a_trial_in_a_cluster_is_yaml_with_all_that_is_told_as_comments(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run.show([*CLUSTER, "max_num_seqs=null,2"], is_sweep=True)
    told = capsys.readouterr().out
    documents = list(yaml.safe_load_all(told))
    own = ["Job", "InferenceService"]
    assert [one["kind"] for one in documents] == ["ClusterBaseModel", "ClusterServingRuntime", *own, *own]
    assert [one["metadata"]["name"] for one in documents[2:]] == ["st-sweep-0"] * 2 + ["st-sweep-1"] * 2
    args = documents[-1]["spec"]["engine"]["runner"]["args"]
    assert args[args.index("--max-num-seqs") + 1] == "2"
    assert args[args.index("--port") + 1] == "8080"
    assert "\n#   server   python3 -m vllm" in told
    assert "VLLM_SERVER_DEV_MODE" not in told
    assert " serve /mnt/data/models/Qwen/Qwen3-8B " in told
    assert "by ClusterServingRuntime servetune-vllm-small-qwen3forcausallm; VLLM_API_KEY in a Secret" in told
    assert told.endswith("Nothing was started or written.\n")


def test_only_what_would_be_deployed_can_be_applied(capsys: pytest.CaptureFixture[str]) -> None:
    assert not dry_run.show([*CLUSTER, "tensor_parallel_size=5"], is_sweep=False)
    told = capsys.readouterr().out
    assert "#   verdict  refused" in told
    assert list(yaml.safe_load_all(told)) == []


def test_models_that_differ_are_each_shown(capsys: pytest.CaptureFixture[str]) -> None:
    dry_run.show([*CLUSTER, "model=qwen3_8b,qwen3_0_6b,qwen3_8b"], is_sweep=True)
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    names = [one["metadata"]["name"] for one in documents if one["kind"] == "ClusterBaseModel"]
    assert names == ["qwen3-8b", "qwen3-0-6b"]


H100 = {"name": "NVIDIA H100 80GB HBM3", "total_mib": 81559}
A100 = {"name": "NVIDIA A100-SXM4-80GB", "total_mib": 81920, "compute_capability": 8.0}
MODEL = ("runtime=sglang", "model=llama31_8b")


def of_this_machine(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    hardware.forget()
    try:
        dry_run.show(overrides, is_sweep=False)
    finally:
        hardware.forget()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("gpus", "visible", "overrides", "words"),
    [
        ((H100, A100), None, (), ["warned: would start if its hardware were known", "the GPUs differ: 1 x NVIDIA A1"]),
        ((H100,), "MIG-1", (), ["warned: would start if its hardware were known", "names slices of a GPU (MIG)"]),
        ((H100, H100), "0", ("hardware.gpu_ids=[1]",), ["CUDA_VISIBLE_DEVICES=0 hides GPU 1. Name GPUs that it shows"]),
        ((H100,), None, ("hardware.gpu_count=4",), ["hardware h100: 4 GPUs are named (hardware.gpu_count), 1 found: "]),
        ((H100,), None, ("hardware.gpu_count=4", "tp_size=4"), ["warned: the trial takes 4 GPUs; 4 GPUs are named"]),
        ((A100,), None, ("hardware=h100",), ["hardware warned: hardware=h100, but what is there is 1 x NVIDIA A100"]),
        ((H100,), None, ("hardware=h100",), ["hardware warned: 8 GPUs are named (hardware.gpu_count), 1 found"]),
        ((H100,), "0", ("hardware=h100", "hardware.gpu_ids=[0,3]"), ["hardware warned: hardware.gpu_ids=[0,3]: expec"]),
        ((H100,), None, (), ["hardware h100: what is here", "ok: would start as asked"]),
        ((H100,), None, ("hardware=h100", "hardware.gpu_count=1"), ["ok: would start as asked"]),
    ],
    ids=[
        "mixed", "slices", "hidden", "more named than found", "more taken than found", "another preset",
        "fewer than the preset has", "not there", "auto", "named",
    ],
)  # fmt: skip
def test_what_this_machine_lacks_is_told(
    *,
    gpus: tuple[dict[str, object], ...],
    visible: str | None,
    overrides: tuple[str, ...],
    words: list[str],
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine.has(len(gpus), *gpus)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    told = of_this_machine(capsys, *MODEL, *overrides)
    assert [word for word in words if word not in told] == []
    assert ("warned" in told) is any("warned" in word or "hides" in word for word in words), told


@pytest.mark.parametrize("runtime", ["vllm", "transformers"])
def test_a_model_that_is_larger_than_the_memory_is_told(
    runtime: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "total_gib", lambda: 64.0)
    told = of_this_machine(capsys, f"runtime={runtime}", "model=llama33_70b", "hardware=cpu")
    assert "131.4 GiB of weights do not fit the 64.0 GiB of memory that there are" in told
    assert ("The trial is refused here" in told) is (runtime == "vllm")
    assert "do not fit" not in of_this_machine(capsys, f"runtime={runtime}", "model=llama32_1b", "hardware=cpu")


def test_docker_is_asked_too(capsys: pytest.CaptureFixture[str]) -> None:
    box = ("backend=docker", "backend.container.socket=tcp://127.0.0.1:1")
    told = of_this_machine(capsys, *MODEL, "hardware=h100", *box)
    assert told.count("\n           cannot run here: Docker does not answer: ") == 1
    assert "None can run here as things are: servetune doctor says what to do. Nothing was started" in told


def shown(*overrides: str) -> list[expand.Trial]:
    return list(expand.trials(overrides, is_sweep=True))


def test_a_sweep_is_every_combination_in_hydras_order() -> None:
    found = shown("n_threads=null,2", "traffic=smoke,chat", "n_parallel=4")
    assert [trial.overrides for trial in found] == [
        ("n_threads=null", "traffic=smoke"), ("n_threads=null", "traffic=chat"),
        ("n_threads=2", "traffic=smoke"), ("n_threads=2", "traffic=chat"),
    ]  # fmt: skip
    assert [(t.config.knobs["n_threads"], t.config.traffic.name, t.config.knobs["n_parallel"]) for t in found] == [
        (None, "smoke", 4), (None, "chat", 4), (2, "smoke", 4), (2, "chat", 4)
    ]  # fmt: skip


def test_an_experiments_own_sweep_is_gone_through() -> None:
    assert [trial.overrides for trial in shown("experiment=smoke", "n_threads=1,2")] == [
        ("n_threads=null", "n_parallel=null"),  # the baseline, which the space does not hold
        ("n_threads=1", "n_parallel=null"), ("n_threads=1", "n_parallel=4"),
        ("n_threads=2", "n_parallel=null"), ("n_threads=2", "n_parallel=4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ("1,2", {1, 2}),
        ("range(3,6)", {3, 4, 5}),
        ("int(interval(7,9))", {7, 8, 9}),
    ],
    ids=["choice", "range", "interval"],
)
def test_a_search_is_shown_by_draws_from_its_space(values: str, allowed: set[int]) -> None:
    search = ("hydra/sweeper=tpe", f"n_threads={values}")
    found = shown(*search)
    assert expand.is_drawn(search)
    assert len(found) == 12
    assert {trial.config.knobs["n_threads"] for trial in found} <= allowed


def test_a_grid_is_no_search() -> None:
    assert not expand.is_drawn(("hydra/sweeper=grid", "n_threads=1,2"))
    assert not expand.is_drawn(("n_threads=1,2",))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h")],
)
def test_times_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert dry_run.clock(seconds) == words
