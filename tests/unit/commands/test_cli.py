"""What a user is told about a mistake, and that nothing has happened then; what the other commands say."""

from pathlib import Path

import pytest

from pipeline.config import command_line, expand
from pipeline.core.errors import ConfigError
from pipeline.trial import hardware
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
        "traffic.sead is not a key. Did you mean seed? traffic has: seed, scenarios, ",
    ),
    "key-below-a-knob": (["n_threads.x=3"], "n_threads.x is not a key: n_threads has no keys below it."),
    "open-section-without-plus": (["slo.limits.ttft_p95_s=2"], "put a + in front: +slo.limits.ttft_p95_s=2"),
    "variables-without-plus": (
        ["runtime.development.env={A:1}"],
        "runtime.development.env: put a + in front: '+runtime.development.env={A:1}'",
    ),
    "a-variable-that-is-no-text": (
        ["+runtime.measuring.env.A=true"],
        "expected a string, got true; quote it, so that it stays text: +runtime.measuring.env.A=\"'true'\".",
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
    "no-such-option": (["runtime=xyz"], "runtime=xyz is not an option. runtime has: llamacpp, openai, sglang, "),
    "no-such-experiment": (
        ["experiment=nope"],
        "experiment=nope is not an option. experiment has: glm46_h20, ",
    ),
    "null-for-a-group": (["runtime=null"], "runtime=null: expected the name of an option. runtime has: llamacpp, "),
    "group-taken-away": (["~traffic"], "traffic.scenarios: is missing"),
    "several-values-without-m": (["n_threads=1,2"], "n_threads=1,2 has several values: add -m (--multirun)"),
    "bad-scenario": (
        ["traffic.scenarios=['D(1)']"],
        "traffic.scenarios.0: expected D(in,out), N(mean,sd)/(mean,sd) or U(min,max)/(min,max), got 'D(1)'.",
    ),
    "scenario-without-quotes": (["traffic.scenarios=[D(1,1)]"], "quote the value: 'traffic.scenarios=[\"D(1,1)\"]'."),
    "bad-number-in-a-section": (["traffic.seed=x"], "traffic.seed: expected an integer, got 'x'."),
    "no-model": (["model=gguf"], "model.path has no value: add model.path=... to the command."),
    "unknown-interpolation": (
        ["model.path=${nope}"],
        "model.path does not resolve: Interpolation key 'nope' not found",
    ),
    "unknown-objective": (["objective=speed"], "objective=speed: expected one of requests_per_s, "),
    "objective-without-slo": (
        ["objective=goodput_requests_per_s"],
        "objective=goodput_requests_per_s needs an SLO: add slo=interactive or slo.ttft_s=...",
    ),
    "unknown-limit": (["+slo.limits.ttft=2"], "slo.limits.ttft: expected one of ttft_mean_s, "),
    "no-value": (["n_threads"], "n_threads: expected key=value."),
    "unclosed-list": (["n_threads=[1"], "n_threads=[1: [ is not closed."),
    "dry-run-of-a-kind": (["dry_run=maybe"], "dry_run=maybe: expected dry_run=true or dry_run=false."),
    "several-options-as-a-list": (["runtime=[sglang,vllm]"], "expected one option; with -m, runtime=sglang,vllm."),
    "a-folder-that-is-not-there": (["hydra.searchpath=[file:///no/such]"], "/no/such is not a folder: --config-dir"),
    "an-option-added": (["+runtime=vllm"], "runtime is chosen already: write runtime=vllm, without a +."),
    "an-objective-twice": (["objective=[ttft_p95_s,ttft_p95_s]"], "objective: ttft_p95_s is there twice."),
    "no-command": (["runtime.command=[]"], "runtime=llamacpp has no command to start a server: "),
    "a-key-of-hydras": (["hydra.job.num=x"], "hydra.job.num=x: expected a whole number."),
    "two-equal-signs": (["n_threads==2"], "n_threads==2: one = is enough: n_threads=2."),
    "spaces-around-the-equal-sign": (["n_threads = 2"], "write it without spaces around the =: n_threads=2."),
    "a-key-that-is-none": (["traffic..seed=2"], "traffic..seed is not a key: keys are words with dots between them"),
    "colon-for-an-equal-sign": (["n_threads:2"], "n_threads:2: expected key=value."),
    "unclosed-quotation": (["model.name='a"], "model.name='a: ' is not closed."),
    "an-apostrophe": (["model.name=it's"], "quote the value: 'model.name=\"it'\"'\"'s\"'."),
    "letters-beyond-ascii": (["model.name=\u65e5\u672c"], "quote the value: 'model.name=\"\u65e5\u672c\"'."),
    "a-bracket-too-many": (["traffic.concurrencies=[1]]"], "] closes nothing."),
    "a-path-with-parentheses": (
        ["model.path=/my models (1)/a.gguf"],
        "quote the value: 'model.path=\"/my models (1)/a.gguf\"'.",
    ),
    "braces": (["model.path=/a{1}.gguf"], "quote the value: 'model.path=\"/a{1}.gguf\"'."),
    "scenario-without-a-list": (
        ["traffic.scenarios=U(1,9)/(2,3)"],
        "quote the value: 'traffic.scenarios=[\"U(1,9)/(2,3)\"]'.",
    ),
    "near-an-option": (["backend=lokal"], "backend=lokal is not an option. Did you mean local? backend has: docker, "),
    "near-an-option-of-hydras": (
        ["hydra/launcher=paralel"],
        "hydra/launcher=paralel is not an option. Did you mean parallel? hydra/launcher has: basic, ",
    ),
    "near-a-group": (["hydra/lancher=basic"], "hydra/lancher is not a group of options. Did you mean hydra/launcher?"),
    "near-a-choice": (
        ["runtime=sglang", "hardware=h100", "attention_backend=flashinfr"],
        "(kernels of the attention). Did you mean flashinfer?",
    ),
    "near-an-objective": (["objective=ttft_p95"], " Did you mean ttft_p95_s?"),
    "near-a-limit": (["+slo.limits.ttft_p95=1"], " Did you mean ttft_p95_s?"),
    "near-a-word": (["traffic.order=risng"], "got 'risng'. Did you mean rising?"),
    "none-for-null": (["n_threads=None"], " Did you mean null?"),
    "true-for-a-rate": (
        ["traffic.arrival=poisson", "traffic.rates=[true]"],
        "traffic.rates.0: expected a number, got true.",
    ),
    "an-arrival-in-capitals": (["traffic.arrival=Poisson", "traffic.rates=[1]"], " Did you mean poisson?"),
    "more-than-64-bits": (
        ["n_threads=99999999999999999999"],
        "n_threads=99999999999999999999: expected an integer of at most 2147483647, or null (threads for generation",
    ),
    "more-than-32-bits": (["n_threads=4294967296"], "n_threads=4294967296: expected an integer of at most 2147483647"),
    "more-than-64-bits-in-a-section": (
        ["traffic.seed=99999999999999999999"],
        "traffic.seed: expected an integer of at most 9223372036854775807 (64 bits), got 99999999999999999999.",
    ),
    "a-time-without-an-end": (["traffic.max_time_per_level_s=inf"], "expected a finite number, got inf."),
    "a-time-of-ages": (
        ["timeouts.deploy_s=1e30"],
        "expected at most 1000000000 seconds, got 1e+30.",
    ),
    "a-variable-that-changes": (["+runtime.env.A=1e3"], "would be set to 1000.0: quote it, so that it stays text: "),
    "mode-of-hydra": (["hydra.mode=MULTIRUN"], "take it out; -m (--multirun) alone makes a sweep."),
    "ends-with-a-comma": (
        ["n_threads=1,"],
        "n_threads=1,: a value is missing beside a comma; write lists",
    ),
}
SWEEP_MISTAKES = {
    "second-value-of-the-wrong-kind": (["n_threads=1,zero"], "n_threads=zero: expected an integer"),
    "second-value-out-of-range": (["n_threads=1,0"], "n_threads=0: expected an integer, 1 or more"),
    "no-such-rules": (["runtime.rules=[nope]"], "runtime.rules: there are no rules nope. Expected "),
    "a-gpu-named-twice": (["hardware.gpu_ids=[0,1,0]"], "hardware.gpu_ids=[0,1,0] names GPU 0 twice."),
    "a-list-for-a-word": (["runtime.extra_args=[[a]]"], "runtime.extra_args: expected words, e.g. [--page-size,64]"),
    "second-option-does-not-exist": (["traffic=smoke,nope"], "traffic=nope is not an option. traffic has: chat, "),
    "second-value-in-a-section": (["traffic.seed=1,x"], "traffic.seed: expected an integer, got 'x'."),
    "end-of-a-long-range": (["prio=range(0,200)"], "prio=4: expected an integer, 0 or more, at most 3"),
    "empty-range": (["n_threads=range(3,1)"], "n_threads=range(3,1) gives no value."),
    "range-without-a-step": (["n_threads=range(1,3,0)"], "n_threads=range(1,3,0) gives no value."),
    "null-in-a-choice": (
        ["n_threads=choice(1, 2, null)"],
        "n_threads=choice(1, 2, null): choice() takes no null; a plain list does: n_threads=1,2,null.",
    ),
    "glob-of-options": (
        ["traffic=glob(*)"],
        "glob() is not supported; list the values: traffic=chat,dataset,long_prompt,",
    ),
    "glob-of-a-knob": (["n_batch=glob(*)"], "glob() is not supported; list the values, with commas between them."),
    "range-in-a-list": (["n_batch=range(1,5),7"], "a range, a choice or an interval cannot be one value of a list"),
    "range-of-words": (["n_batch=range(a,b)"], "n_batch=range(a,b): expected range(start,stop) or range(start,stop,st"),
    "interval-of-words": (["n_batch=interval(a,b)"], "expected interval(low,high) with two numbers."),
    "interval-from-high-to-low": (
        ["hydra.sweeper.n_trials=3", "n_batch=int(interval(2048,32))"],
        "the lower end comes first: 'n_batch=int(interval(32,2048))'",
    ),
    "interval-without-an-end": (["n_batch=interval(1,inf)"], "expected an interval between two numbers."),
    "range-of-a-million": (
        ["n_batch=range(1,1000000)"],
        "at most 10000 are taken. Take larger steps, or search: 'n_batch=int(interval(1,999999))' hydra.sweeper.n_",
    ),
    "range-of-seeds": (["traffic.seed=range(0,1000000000000)"], "gives 1000000000000 values"),
    "range-without-an-end": (["traffic.seed=range(0,inf)"], "gives values without an end"),
    "trials-without-number": (["hydra.sweeper.n_trials=99999999999999999999", "n_batch=1,2"], "equal to 1000000."),
    "mode-of-hydra": (["hydra.mode=RUN", "n_batch=1,2"], "take it out; -m (--multirun) alone makes a sweep."),
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


@pytest.mark.parametrize("option", ["hydra: {mode: MULTIRUN}", "hydra: {sweeper: {params: {n_batch: glob(*)}}}"])
def test_a_file_of_ones_own_is_told_its_mistakes_too(option: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{option}\n")
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"]
    with pytest.raises(ConfigError, match=r"take it out|list the values"):
        command_line.check(overrides, is_sweep="params" in option)


def test_a_number_as_a_variable_is_text() -> None:
    overrides = ["+runtime.env.NCCL_NVLS_ENABLE=0", "+runtime.env.SHARE=0.5", "+runtime.env.MASK=007"]
    command_line.check(overrides, is_sweep=False)
    (trial,) = expand.trials(overrides, is_sweep=False)
    assert dict(trial.config.runtime.env).items() >= {"NCCL_NVLS_ENABLE": "0", "SHARE": "0.5", "MASK": "007"}.items()


OF_THEIR_OWN = [["replay"], ["replay", "--help"], ["dry-run", "-m", "n_threads=1,2"]]


@pytest.mark.parametrize("words", [*OF_THEIR_OWN, ["relay"]], ids="-".join)
def test_the_name_of_a_command_is_no_override(words: list[str]) -> None:
    done = forked.run([*command(sweep=False), *words])
    own = f"It is a command of its own: servetune {' '.join(words)}"
    told = own if words in OF_THEIR_OWN else "servetune --help shows all."
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {words[0]} is not an override such as n_threads=2. {told}\n"


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--help"], ["--info", "all"]], ids="-".join)
def test_a_mistake_is_told_by_what_only_looks_too(flags: list[str]) -> None:
    done = forked.run([*command(sweep=False), *flags, "n_thread=2"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: n_thread is not a knob of runtime=llamacpp. Did you mean n_threads?")
    assert done.stderr.count("\n") == 1


def test_a_flag_of_hydras_that_goes_with_another_is_told() -> None:
    done = forked.run([*command(sweep=False), "--resolve"])
    assert (done.returncode, done.stderr) == (2, "error: --resolve goes with --cfg, e.g. --cfg job --resolve.\n")


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
    assert "traffic: chat, dataset, long_prompt, shared_prefix, smoke" in text
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
    """The doctor's exit code, and its lines: `ok`, `FAIL` or `-` by check, and what was found by check."""
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


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("n_threads=1,2", "n_threads=1,2 has several values: name one; servetune dry-run -m shows the trials of all."),
        ("n_threads=choice(1,2)", "n_threads=choice(1,2) has several values: name one"),
        ("n_threads=(", "n_threads=(: ( is not closed."),
        ("dry_run=3", "dry_run=3: expected dry_run=true or dry_run=false."),
        ("hydra.job.num=x", "hydra.job.num=x: expected a whole number."),
        ("hydra.job.chdir=perhaps", "hydra.job.chdir=perhaps: expected true or false."),
        ("hydra.mode=foo", "hydra.mode=foo: expected one of RUN, MULTIRUN."),
        ("--config-dir=/no/such", "/no/such is not a folder"),
    ],
)
@pytest.mark.parametrize("command", ["main", "knobs"])
def test_commands_that_look_at_one_configuration_word_their_errors(
    override: str, told: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline import doctor

    assert getattr(doctor, command)([override]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


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


NO_DOCKER = ("backend=docker", "backend.container.socket=tcp://127.0.0.1:1", "backend.container.image=engine:1")


@pytest.mark.parametrize(
    ("overrides", "failed", "unasked"),
    [
        (
            ["runtime.command=[no-such-program]", "runtime.needs_modules=[a_module]"],
            "runtime stub",
            ["package a_module"],
        ),
        (["runtime.needs_modules=[a_module,another]"], "package a_module", ["package another"]),
        (["runtime.on_gpu=true", "hardware=h100"], "hardware h100", ["GPUs and cores for a trial"]),
        ([*NO_DOCKER], "docker", ["image"]),
        (
            [*NO_DOCKER, "runtime.on_gpu=true"],
            "hardware",
            ["machine", "GPUs and cores for a trial", "docker", "image"],
        ),
    ],
    ids=["program", "packages", "gpus", "docker", "remote docker whose GPUs are asked for"],
)
def test_the_doctor_names_each_cause_once(
    tiny_gguf: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], failed: str, unasked: list[str]
) -> None:
    hardware.forget()
    code, rows = doctor(capsys, f"model.path={tiny_gguf}", f"bench.program={TESTS}/fakes/bench/genai-bench", *overrides)
    hardware.forget()
    assert code == 1
    assert [what.split(":")[0] for what, state in rows.items() if state == "FAIL"] == [failed], rows
    assert [what.split(":")[0] for what, state in rows.items() if state == "-"] == unasked
    assert all(": not checked: see " in what for what, state in rows.items() if state == "-")
    assert not any("all free" in what for what in rows)
