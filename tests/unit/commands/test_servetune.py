"""The command `servetune`: its words, its help, and that it imports no more than a word needs."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from pipeline.cli import main, texts
from pipeline.cli.commands import COMMANDS, OPTIONS
from pipeline.engines.versions import versions
from support.places import ROOT

HEAVY = ("hydra", "omegaconf", "pydantic", "numpy", "optuna", "dataclasses")


def servetune(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pipeline.cli.main", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """The exit code of a command run in this process, and what it said."""
    monkeypatch.setattr(sys, "argv", ["servetune", *words])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    code = main.main()
    out, err = capsys.readouterr()
    return code, out, err


def test_one_help_lists_every_command_and_says_what_an_override_is() -> None:
    text = texts.help_()
    assert all(f"\n  {name} " in text and command.summary in text for name, command in COMMANDS.items())
    assert all(option in text for option in OPTIONS)
    assert "NAME=VALUE replaces one value of the configuration." in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    assert said(capsys, monkeypatch, word) == (0, texts.help_(), "")


def test_the_version_is_ours_and_that_of_each_catalogue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = said(capsys, monkeypatch, "--version")
    assert code == 0
    assert out.startswith(f"servetune {version('servetune')}\n")
    assert f"\n  sglang: {', '.join(versions('sglang'))}\n" in out
    assert f"\n  vllm: {', '.join(versions('vllm'))}\n" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        said(capsys, monkeypatch, name, "--help")
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert out.startswith(f"usage: servetune {name} [-h]")
    assert "python -m" not in out
    assert all(f" {flag}" in out for flag in COMMANDS[name].flags), "a flag that is completed is one that there is"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["docter"], "docter is not a command. Did you mean doctor? Expected one of dry-run, doctor, "),
        (["dryrun"], "Did you mean dry-run?"),
        (["frobnicate"], "frobnicate is not a command. Expected one of dry-run, "),
        (["-m", "dry-run", "n_threads=1,2"], "dry-run is a command: write it first, servetune dry-run -m"),
        (["n_threads=1", "doctor"], "doctor is a command: write it first, servetune doctor ..."),
        (["--completion"], "--completion : expected one of bash, zsh, fish."),
        (["--completion", "tcsh"], "--completion tcsh: expected one of bash, zsh, fish."),
    ],
)
def test_a_wrong_word_gets_one_clear_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    code, out, err = said(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["n_thread=2"], ["-m", "n_thread=2"], ["dry-run", "-m", "n_thread=1,2"]])
def test_overrides_go_to_the_pipeline(words: list[str]) -> None:
    done = servetune(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: n_thread is not a knob of runtime=llamacpp. Did you mean n_threads?")


def test_dry_run_is_the_pipelines_own() -> None:
    ours, own = servetune("dry-run", "-m", "n_threads=1,2"), servetune("-m", "n_threads=1,2", "dry_run=true")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout == own.stdout
    assert "3 trials: 3 ok." in ours.stdout


def test_help_of_an_override_lists_the_configuration() -> None:
    done = servetune("runtime=sglang", "--help")
    assert done.returncode == 0
    assert "page_size: null" in done.stdout


@pytest.mark.parametrize(
    ("ours", "old"), [(["sglang"], ["--knobs", "sglang"]), ([], ["--knobs"]), (["runtime=vllm"], ["--knobs", "vllm"])]
)
def test_knobs_lists_what_the_doctor_lists(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ours: list[str], old: list[str]
) -> None:
    from pipeline import doctor

    code, out, err = said(capsys, monkeypatch, "knobs", *ours)
    assert doctor.main(old) == code == 0
    assert (out, err) == capsys.readouterr()
    assert "leaves the flag out" in out


def test_knobs_of_an_unknown_version_are_not_made_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = said(capsys, monkeypatch, "knobs", "vllm", "runtime.version=banana")
    assert (code, out) == (2, "")
    assert "there is no flag catalogue for vllm banana; the nearest known version: " in err


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["--completion", "bash"], ["--complete", "servetune r"]])
def test_nothing_heavy_is_imported_for_a_quick_answer(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['servetune', *{words!r}]; from pipeline.cli.main import main; main(); "
        f"sys.exit(' '.join({{*{HEAVY!r}}} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout
    assert done.stderr.strip() == ""


def test_a_folder_named_pipeline_is_not_us_in_what_we_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["servetune", "--version"])
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # so that what it was before comes back
    monkeypatch.delenv("PYTHONSAFEPATH")
    main.main()
    assert os.environ["PYTHONSAFEPATH"] == "1"
    capsys.readouterr()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    argv = [sys.executable, "-m", "pipeline.cli.main", "--help"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert (child.stderr.read(), child.wait(timeout=240)) == ("", 0)
