"""What a user is told about a mistake, and that nothing has happened then; what the other commands say."""

from pathlib import Path

import pytest

from pipeline.config import command_line
from pipeline.core.errors import ConfigError
from support import forked
from support.cli import command, pipeline
from support.places import TESTS

STUB = [f"hydra.searchpath=[file://{TESTS}/fakes/conf]", "runtime=stub"]
OPTUNA = "hydra/sweeper=optuna"
KNOBS = "Its knobs: n_threads, n_threads_batch, n_parallel, "

MISTAKES = {
    "typo-in-a-knob": (["n_thread=2"], "n_thread is not a knob of runtime=llamacpp. Did you mean n_threads? " + KNOBS),
    "typo-at-the-root": (["trafic=chat"], "trafic is not a knob of runtime=llamacpp. Did you mean traffic? " + KNOBS),
    "knob-of-another-runtime": (
        [*STUB, "n_threads=2"],
        "n_threads is not a knob of runtime=stub. It is a knob of runtime=llamacpp. Its knobs: fault, parallel, ",
    ),
    "typo-in-a-key": (
        ["traffic.sead=3"],
        "traffic.sead is not a key. Did you mean seed? traffic has: order, all_levels, drain_s, name",
    ),
    "key-below-a-knob": (["n_threads.x=3"], "n_threads.x is not a key: n_threads has no keys below it."),
    "open-section-without-plus": (["slo.limits.ttft_p95_s=2"], "put a + in front: +slo.limits.ttft_p95_s=2"),
    "variables-without-plus": (
        ["runtime.development.env={A:1}"],
        "runtime.development.env: put a + in front: '+runtime.development.env={A:1}'",
    ),
    "a-variable-that-is-no-text": (
        ["+runtime.measuring.env.A=true"],
        "expected a string, got True; quote it, so that it stays text: runtime.measuring.env.A=\"'true'\".",
    ),
    "version-that-is-a-number": (
        ["runtime=vllm", "runtime.version=1.2"],
        "runtime.version: expected a string, got 1.2; quote it, so that it stays text: runtime.version=\"'1.2'\".",
    ),
    "unknown-key-with-plus": (["+surprise=1"], "surprise: unknown key."),
    "unknown-key-in-a-section-with-plus": (["+traffic.surprise=1"], "traffic.surprise: unknown key."),
    "text-for-an-integer": (["n_threads=many"], "n_threads=many: expected an integer, 1 or more (threads) or null ("),
    "fraction-for-an-integer": (["n_threads=1.5"], "n_threads=1.5: expected an integer, 1 or more (threads)"),
    "list-for-a-knob": (["n_threads=[1,2]"], "n_threads: expected one value, got [1, 2]."),
    "nothing-for-a-knob": (["n_threads="], "n_threads=: expected an integer"),
    "below-its-range": (["n_threads=0"], "n_threads=0: expected an integer, 1 or more (threads)"),
    "above-its-range": (["prio=4"], "prio=4: expected an integer, 0 or more, at most 3 or null"),
    "no-such-choice": (
        ["flash_attn=maybe"],
        "flash_attn=maybe: expected one of on, off, auto or null (fused attention",
    ),
    "yes-for-true": (["cont_batching=yes"], "cont_batching=yes: expected true or false or null"),
    "no-such-option": (["runtime=nope"], "Could not find 'runtime/nope' Available options in 'runtime': llamacpp"),
    "no-such-experiment": (["experiment=nope"], "Available options in 'experiment': glm46_h20 llama1b_l4"),
    "null-for-a-group": (["runtime=null"], "Config group override must be a string or a list."),
    "group-taken-away": (["~traffic"], "traffic.scenarios: is missing"),
    "several-values-without-m": (["n_threads=1,2"], "n_threads=1,2 has several values: add -m (--multirun)"),
    "bad-scenario": (
        ["traffic.scenarios=['D(1)']"],
        "traffic.scenarios.0: expected D(in,out), N(mean,sd)/(mean,sd) or U(min,max)/(min,max), got 'D(1)'.",
    ),
    "scenario-without-quotes": (["traffic.scenarios=[D(1,1)]"], "quote values that contain parentheses"),
    "bad-number-in-a-section": (["traffic.seed=x"], "traffic.seed: expected an integer, got 'x'."),
    "no-model": (["model=gguf"], "model.path has no value: add model.path=... to the command."),
    "unknown-interpolation": (
        ["model.path=${nope}"],
        "model.path does not resolve: Interpolation key 'nope' not found",
    ),
    "unknown-objective": (["objective=speed"], "objective=speed: expected one of auto, requests_per_s, "),
    "objective-without-slo": (
        ["objective=goodput_requests_per_s"],
        "objective=goodput_requests_per_s needs an SLO: add slo=interactive or slo.ttft_s=...",
    ),
    "unknown-limit": (["+slo.limits.ttft=2"], "slo.limits.ttft: expected one of ttft_mean_s, "),
    "no-value": (["n_threads"], "n_threads: expected key=value."),
    "unclosed-list": (["n_threads=[1"], "n_threads=[1: cannot be read: no viable alternative at input '[1'."),
    "ends-with-a-comma": (["n_threads=1,"], "n_threads=1,: cannot be read: mismatched input '<EOF>'."),
}
SWEEP_MISTAKES = {
    "second-value-of-the-wrong-kind": (["n_threads=1,zero"], "n_threads=zero: expected an integer"),
    "second-value-out-of-range": (["n_threads=1,0"], "n_threads=0: expected an integer, 1 or more"),
    "second-option-does-not-exist": (["traffic=smoke,nope"], "Could not find 'traffic/nope'"),
    "second-value-in-a-section": (["traffic.seed=1,x"], "traffic.seed: expected an integer, got 'x'."),
    "end-of-a-long-range": (["prio=range(0,200)"], "prio=4: expected an integer, 0 or more, at most 3"),
    "empty-range": (["n_threads=range(3,1)"], "n_threads=range(3,1) gives no value."),
    "range-without-a-step": (["n_threads=range(1,3,0)"], "n_threads=range(1,3,0) gives no value."),
    "interval-without-a-search": (
        ["hydra/sweeper=basic", "n_threads=int(interval(1,8))"],
        "this sweeper cannot search an interval. Use hydra/sweeper=tuner, the default.",
    ),
    "search-without-an-end": (["n_threads=int(interval(1,8))"], "would never end: set hydra.sweeper.n_trials"),
    "interval-end-out-of-range": ([OPTUNA, "prio=int(interval(0,300))"], "prio=300: expected an integer, 0 or more"),
    "interval-of-fractions": (
        [OPTUNA, "n_threads=interval(1,8)"],
        "gives fractions, but n_threads takes integers: use 'n_threads=int(interval(1,8))'.",
    ),
    "direction-of-the-search": (
        [OPTUNA, "objective=ttft_p95_s", "n_threads=1,2"],
        "does not fit objective=['ttft_p95_s']: set 'hydra.sweeper.direction=[minimize]'.",
    ),
    "search-option-without-a-search": (
        ["hydra/sweeper=basic", "hydra.sweeper.n_trials=5", "n_threads=1,2"],
        "hydra.sweeper.n_trials is not a key. The keys of a search belong to hydra/sweeper=tuner, the default.",
    ),
    "trials-judged-by-different-metrics": (
        ["slo=none,interactive"],
        "slo=interactive would optimise goodput_requests_per_s_per_gpu, other trials output_tokens",
    ),
}


@pytest.mark.parametrize(("overrides", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_what_is_allowed(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check(overrides, is_sweep=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("overrides", "words"), SWEEP_MISTAKES.values(), ids=SWEEP_MISTAKES)
def test_a_mistake_in_any_value_of_a_sweep_is_told_before_the_first_trial(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check(overrides, is_sweep=True)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "total", "swept"),
    [
        ([], 1, ()),
        (["n_threads=2"], 1, ()),
        (["n_threads=null,1,2", "n_parallel=null,4"], 6, ("n_threads", "n_parallel")),
        (["n_threads=range(1,5)", "traffic=smoke,chat"], 9, ("n_threads", "traffic")),
        (["experiment=smoke"], 4, ("n_threads", "n_parallel")),
        (["experiment=smoke", "n_threads=2"], 2, ("n_parallel",)),
        ([OPTUNA, "n_threads=1,2", "n_batch=tag(log,int(interval(32,1048576)))"], 12, ("n_threads", "n_batch")),
        ([OPTUNA, "n_threads=1,2", "hydra.sweeper.n_trials=3"], 3, ("n_threads",)),
        (["hydra/sweeper=grid", "n_threads=1,2", "prio=range(0,4,2)"], 4, ("n_threads", "prio")),
    ],
    ids=[
        "one-trial", "one-fixed-trial", "product", "range-and-group", "experiment", "experiment-with-one-fixed",
        "search", "search-of-some-trials", "grid",
    ],
)  # fmt: skip
def test_a_sweep_is_outlined_before_it_runs(overrides: list[str], total: int, swept: tuple[str, ...]) -> None:
    outline = command_line.check(overrides, is_sweep=True)
    assert (outline.total, outline.swept) == (total, swept)


@pytest.mark.parametrize(
    ("override", "sweep", "words"),
    [("paralell=2", False, "Did you mean parallel?"), ("parallel=2,0", True, "parallel=0: expected an integer")],
    ids=["trial", "sweep"],
)
def test_after_a_mistake_nothing_has_happened(tmp_path: Path, override: str, words: str, *, sweep: bool) -> None:
    result = pipeline(override, folder=tmp_path / "out", gguf=tmp_path / "x.gguf", sweep=sweep)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert words in result.err
    assert "Traceback" not in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_options_may_lie_in_a_folder_of_ones_own() -> None:
    argv = [*command(sweep=False), "--config-dir", f"{TESTS}/fakes/conf", "runtime=stub", "parallel=0"]
    done = forked.run(argv)
    assert done.returncode == 2
    assert done.stderr.startswith("error: parallel=0: expected an integer, 1 or more or null (slots it claims).")


def said(*arguments: str, module: str = "pipeline") -> str:
    """What a command says on stdout; it must end well and say nothing else."""
    argv = [*command(sweep=False, module=module), *arguments]
    done = forked.run(argv)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_tells_how_to_begin() -> None:
    text = said("--help")
    assert "servetune -m n_threads=null,1,2 n_parallel=null,4" in text
    assert "traffic: chat, long_prompt, smoke" in text
    assert "n_threads: null" in text


def test_cfg_shows_the_composed_configuration() -> None:
    text = said("--cfg", "job", "n_threads=2")
    assert "\nn_threads: 2\n" in f"\n{text}"
    assert "name: llamacpp" in text


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pipeline.doctor", "Check whether a configuration can run on this machine"),
        ("pipeline.reap", "Remove servers whose trial was killed."),
        ("pipeline.report", "Rank the trials of a sweep"),
    ],
)
def test_every_command_has_a_help(module: str, words: str) -> None:
    text = " ".join(said("--help", module=module).split())
    assert text.startswith(f"usage: python -m {module}")
    assert words in text


def doctor(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, str]]:
    """The doctor's exit code, and its lines: `ok` or `FAIL` by check, and what was found by check."""
    from pipeline.doctor import main

    code = main([*STUB, "model=gguf", *overrides])
    out, err = capsys.readouterr()
    rows = [line.split("  ", 1) for line in out.splitlines()]
    return code, {what.strip(): state for state, what in rows} or {err: "error"}


def test_the_doctor_says_that_all_is_well(tmp_path: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = doctor(capsys, f"model.path={tiny_gguf}", f"bench.program={TESTS}/fakes/bench/genai-bench")
    assert code == 0
    assert set(rows.values()) == {"ok"}
    assert f"leases can be written: {tmp_path}/state/leases" in rows
    assert f"genai-bench: {TESTS}/fakes/bench/genai-bench" in rows
    assert f"model gguf: {tiny_gguf}" in rows


@pytest.mark.parametrize(
    ("override", "row"),
    [
        (
            "model.path=/nope.gguf",
            "model gguf: model.path=/nope.gguf does not exist. Expected a GGUF file or a Hugging Face folder.",
        ),
        (
            "bench.program=/nope",
            "genai-bench: /nope is not an executable program. Install servetune again, or set bench.program.",
        ),
        (
            "runtime.command=[no-such-program]",
            "runtime stub: runtime=stub starts 'no-such-program', which is not found on the PATH",
        ),
        ("runtime.needs_modules=[no_such_module]", "package no_such_module: The Python package no_such_module is not"),
    ],
    ids=["model-file", "genai-bench", "program", "package"],
)
def test_the_doctor_says_what_is_missing_and_how_to_mend_it(
    tiny_gguf: Path, capsys: pytest.CaptureFixture[str], override: str, row: str
) -> None:
    code, rows = doctor(capsys, f"model.path={tiny_gguf}", override)
    assert code == 1
    (failed,) = (what for what, state in rows.items() if state == "FAIL")
    assert failed.startswith(row)


def test_the_doctor_says_that_a_model_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model at all" * 100)
    code, rows = doctor(capsys, f"model.path={tmp_path}/x.gguf")
    assert code == 1
    assert [state for what, state in rows.items() if what.startswith("model gguf: ")] == ["FAIL"]


def test_the_doctor_says_that_no_lease_can_be_written(
    tiny_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVETUNE_STATE_DIR", f"{tiny_gguf}/below-a-file")
    code, rows = doctor(capsys, f"model.path={tiny_gguf}")
    assert code == 1
    assert any("Not a directory. Without a lease nothing is deployed." in what for what in rows)


def test_the_doctor_refuses_a_configuration_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = doctor(capsys, "model.path=x", "parallel=0")
    assert code == 2
    assert [row.startswith("error: parallel=0: expected an integer") for row in rows] == [True]
