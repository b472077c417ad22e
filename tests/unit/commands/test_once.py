"""What is wrong for every trial of a command is told once, before anything is made."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from parts.nvml import Machine
from pipeline import dry_run
from pipeline.config import kinds
from pipeline.core.errors import CannotRun, FailureKind
from pipeline.sweep import launchers
from pipeline.trial import hardware, once
from support import forked
from support.cli import Result, pipeline
from support.records import make_failure, make_record

DESIGN = ("runtime=sglang", "attention_backend=flashinfer,fa3", "page_size=32,64", "tracker=none")
NO_ENGINE = "runtime.command=[no-such-program]"


@pytest.fixture(autouse=True)
def unseen() -> Iterator[None]:
    """What this process has seen of the machine is another test's."""
    hardware.forget()
    yield
    hardware.forget()


@pytest.fixture
def run(tmp_path: Path, tiny_gguf: Path) -> Callable[..., Result]:
    """A sweep by the tuner with the stand-in engine."""

    def go(*overrides: str, sweep: bool = True) -> Result:
        own = ("hydra/sweeper=tuner", "hydra.sweeper.confirm=0", *overrides)
        return pipeline(*(own if sweep else overrides), folder=tmp_path / "out", gguf=tiny_gguf, sweep=sweep)

    return go


def made(folder: Path) -> list[Path]:
    """What a command has left but for what every start looks at: leases, claims, the model of the test."""
    return [path for path in folder.rglob("*") if "out" in path.relative_to(folder).parts]


def test_the_first_command_of_the_docs_without_its_engine(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '{\"sglang\": null}'\n")
    python.chmod(0o755)
    model = tmp_path / "model"  # nothing to download, whatever disk there is
    model.mkdir()
    (model / "tokenizer.json").write_text("{}")
    argv = [
        sys.executable,
        "-m",
        "pipeline",
        "-m",
        *DESIGN,
        f"runtime.python={python}",
        f"model.path={model}",
        f"hydra.sweep.dir={tmp_path}/out",
    ]
    done = forked.run(argv, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert (
        error == f"error: No trial of this sweep can run here: The Python package sglang is not installed in {python}."
    )
    assert hint.startswith("hint: Install it in its own virtual environment")
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        (NO_ENGINE, "runtime=stub starts 'no-such-program', which is not found on the PATH"),
        ("runtime.python=/nope/python", "runtime=stub starts '/nope/python', which is not found on the PATH"),
        ("runtime.needs_modules=[no_such_module]", "The Python package no_such_module is not installed"),
        ("model.path=/nope.gguf", "model.path=/nope.gguf does not exist"),
        ("bench.program=/nope", "/nope is not an executable program"),
        ("hardware=h100", "The trial needs 8 NVIDIA GPUs; this machine has none"),
    ],
    ids=["engine", "interpreter", "package", "model", "genai-bench", "gpus"],
)
def test_each_is_one_message_and_nothing_is_left(
    run: Callable[..., Result], tmp_path: Path, override: str, cause: str
) -> None:
    result = run(override, "parallel=2,4", "hydra/launcher=parallel")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: No trial of this sweep can run here: {cause}")
    assert result.err.count("\n") == 2, result.err
    assert made(tmp_path) == []


def test_so_it_is_with_a_single_trial(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(NO_ENGINE, sweep=False)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: This trial cannot run here: runtime=stub starts 'no-such-program'")
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (("backend=docker", "backend.container.socket=unix:///nope.sock", "hardware=cpu"), "Docker does not answer"),
        (
            ("backend=ome", "backend.kubernetes.cluster.kubeconfig=/nope", "hardware=h100"),
            "Cannot connect to a cluster",
        ),
        (("backend=ome", "backend.kubernetes.cluster.kubeconfig=/nope"), "Cannot connect to a cluster"),
    ],
    ids=["docker", "cluster", "cluster whose GPUs are asked for"],
)
def test_the_place_where_trials_run_is_asked(tmp_path: Path, overrides: tuple[str, ...], cause: str) -> None:
    argv = [*DESIGN, "model=qwen3_0_6b", *overrides, f"hydra.sweep.dir={tmp_path}/out"]
    done = forked.run([sys.executable, "-m", "pipeline", "-m", *argv], env=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.count(cause) == 1, done.stderr
    assert made(tmp_path) == []


def test_an_image_that_nobody_has_named_is_told_even_where_docker_is_away(tmp_path: Path) -> None:
    words = [*DESIGN, "model=qwen3_0_6b", "backend=docker", "backend.container.socket=unix:///nope.sock"]
    words += ["runtime.image=null", "hardware=cpu", f"hydra.sweep.dir={tmp_path}/out"]
    done = forked.run([sys.executable, "-m", "pipeline", "-m", *words], env=dict(os.environ))
    assert done.returncode == 2
    causes = ("runtime=sglang names no image for backend=docker.", "Docker does not answer")
    assert [done.stderr.count(cause) for cause in causes] == [1, 1], done.stderr


def test_a_slurm_that_is_not_there_is_told_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="No trial of this sweep can run: scontrol did not answer") as caught:
        launchers.insist()
    assert caught.value.kind == FailureKind.BACKEND_DOWN


def test_a_model_that_only_some_trials_want_costs_those_alone(run: Callable[..., Result], tiny_gguf: Path) -> None:
    result = run(f"model.path=/nope.gguf,{tiny_gguf}", "hydra.sweeper.baseline=false")
    assert (result.code, [record.status for record in result.records]) == (0, ["failed", "ok"]), result.err


def test_models_that_are_all_missing_are_named_in_one_message(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("model.path=/nope.gguf,/none.gguf", "parallel=2,4")
    assert result.code == 2
    assert [result.err.count(f"model.path={name}.gguf does not exist") for name in ("/nope", "/none")] == [1, 1]
    assert made(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"no model at all", "is not a GGUF file"), (None, "has no tokenizer. Expected tokenizer.json")],
    ids=["file", "folder"],
)
def test_what_is_no_model_is_found_too(
    run: Callable[..., Result], tmp_path: Path, content: bytes | None, cause: str
) -> None:
    model = tmp_path / "model.gguf"
    model.mkdir() if content is None else model.write_bytes(content)
    result = run(f"model.path={model}", f"runtime.needs_gguf={str(content is not None).lower()}", "parallel=2,4")
    assert (result.code, cause in result.err) == (2, True), result.err
    assert made(tmp_path) == []


SGLANG = ("runtime=sglang", "runtime.needs_modules=[]", "hardware=h100")


@pytest.mark.parametrize(
    ("overrides", "runs"),
    [
        (("tp_size=4,8",), True),
        (("tp_size=4,8", "hydra.sweeper.baseline=false"), False),
        (("tp_size=2,8", "hydra.sweeper.baseline=false"), True),
        (("tp_size=2", "pp_size=1,2"), True),
        (("tp_size=4", "page_size=32,64"), False),
        (("tp_size=int(interval(4,8))", "hydra.sweeper.n_trials=5", "hydra.sweeper.baseline=false"), False),
    ],
    ids=["the baseline fits", "none fits", "one fits", "one fits by two knobs", "fixed", "interval"],
)
def test_gpus_are_those_of_the_trial_that_takes_fewest(
    overrides: tuple[str, ...], *, runs: bool, machine: Machine
) -> None:
    machine.has(2)
    seen = nullcontext() if runs else pytest.raises(CannotRun, match="this machine has 2")
    with seen:
        once.insist(kinds.of([*SGLANG, *overrides], is_sweep=True), is_sweep=True)


@pytest.mark.parametrize(
    ("overrides", "failed", "is_for_all"),
    [
        (("page_size=32,64",), {}, True),
        (("page_size=32,64",), {"step": "deploy"}, False),
        (("page_size=32,64",), {"step": "model"}, True),
        (("tp_size=2,4",), {}, True),
        (("tp_size=2,4", "hydra.sweeper.baseline=false"), {}, True),
        (("slo=none,interactive", "traffic=smoke,chat"), {}, True),
        (("model=qwen3_0_6b,qwen3_8b",), {}, False),
        (("hardware=h100,h200",), {}, False),
        (("+runtime.env.A=x,y",), {}, False),
    ],
    ids=[
        "knobs",
        "another step",
        "no model",
        "the baseline takes one",
        "fewest",
        "the load",
        "models",
        "GPUs",
        "settings",
    ],
)
def test_what_one_job_lacks_all_lack_if_nothing_else_differs(
    overrides: tuple[str, ...], failed: dict[str, str], *, is_for_all: bool
) -> None:
    found = list(kinds.of([*SGLANG, *overrides], is_sweep=True))
    failure = make_failure(**{"step": "preflight", "kind": FailureKind.PREFLIGHT, **failed})
    done = replace(make_record(status="failed", failure=failure), config=found[0])
    assert once.judge(found)(done) is is_for_all


def test_a_trial_with_more_gpus_than_others_speaks_for_itself_alone() -> None:
    found = list(kinds.of([*SGLANG, "tp_size=2,4", "hydra.sweeper.baseline=false"], is_sweep=True))
    failure = make_failure(step="preflight", kind=FailureKind.NO_GPU)
    assert not once.judge(found)(replace(make_record(status="failed", failure=failure), config=found[1]))


def test_a_dry_run_says_it_beside_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*DESIGN, "hardware=h100", f"runtime.python={tmp_path}/python", f"hydra.sweep.dir={tmp_path}/out"]
    assert dry_run.show(given, is_sweep=True)
    told = capsys.readouterr().out
    assert told.count("  verdict  ok: would start as asked\n           cannot run here: runtime=sglang starts") == 5
    assert told.count("cannot run here: The trial needs 1 NVIDIA GPU; this machine has none") == 5
    assert "None can run here as things are: servetune doctor says what to do. Nothing was started" in told
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_jobs_says_nothing_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run.show([*DESIGN, "hardware=h100", "hydra/launcher=submitit_slurm"], is_sweep=True, is_elsewhere=True)
    assert "run here" not in capsys.readouterr().out


def test_a_finished_search_needs_no_engine_any_more(
    run: Callable[..., Result], tmp_path: Path, tiny_gguf: Path
) -> None:
    model = Path(shutil.copy(tiny_gguf, tmp_path / "model.gguf"))
    words = (f"model.path={model}", "parallel=2,4")
    first = run(*words)
    assert first.code == 0, first.err
    model.unlink()
    again = run(*words)
    assert (again.code, "rank  trial" in again.out) == (0, True), again.err
    more = run(*words, "hydra.sweeper.repeats=2")
    assert more.code == 2
    assert more.err.count("does not exist") == 1, more.err
    assert len(more.records) == len(first.records)


def test_of_several_engines_none_of_which_is_here_each_is_told_in_its_own_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '{}'\n")
    python.chmod(0o755)
    own = [f"{engine}.runtime.python={python}" for engine in ("sglang", "vllm")]
    given = ["runtime=sglang,vllm", *own, "sglang.page_size=null,32", "vllm.block_size=null,16"]
    with pytest.raises(CannotRun) as caught:
        once.by_engine(kinds.by_engine(given, once.MOST))
    for engine in ("sglang", "vllm"):
        assert f"The Python package {engine} is not installed in {python}." in str(caught.value)
        assert f"set {engine}.runtime.python=ENGINE/bin/python" in str(caught.value)
    assert caught.value.hint == "Mend what one of the engines lacks: nothing was started or written."
