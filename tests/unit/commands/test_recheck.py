"""A recheck: what stops it, and what the winner answers. That it compares metrics: tests/unit/report/test_best.py."""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import recheck
from pipeline.core.answers import Asked
from pipeline.core.files import RunDir, save
from pipeline.core.record import Record
from pipeline.core.values import from_json, load
from pipeline.machine import process
from pipeline.report import summary
from pipeline.report.best import answers
from support import forked
from support.answers import BROKEN, DIFFERS, FAR, WELL, base, trial
from support.cli import Result, command, pipeline
from support.places import FAKES, TESTS
from support.sweeping import running

OPTIONS = f"hydra.searchpath=[file://{FAKES}/conf]"
SLOTS = {"STUB_BENCH_RATE": "slots"}  # more of them are faster


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_recheck_stops_its_trial(tmp_path: Path, tiny_gguf: Path, number: signal.Signals) -> None:
    swept = pipeline("parallel=4", folder=tmp_path / "out", gguf=tiny_gguf, sweep=True)
    argv = [*command(sweep=False, module="pipeline.recheck"), str(swept.folder / "best")]
    with running([*argv, OPTIONS], tmp_path, {"STUB_BENCH": "hang"}) as us:
        us.await_that(lambda: bool([*us.folder.glob("recheck/*/0/bench/*/*/console.log")]))
        if number == signal.SIGINT:  # a terminal tells the whole group
            os.killpg(us.child.pid, number)
        else:
            us.child.send_signal(number)
        result = us.end()
        assert process.wait_until(lambda: not us.processes(), timeout_s=180)
    (path,) = us.folder.glob("recheck/*/0/record.json")
    record = load(Record, path)
    assert record.teardown is not None
    assert (result.code, record.status, record.teardown.by) == (128 + number, "interrupted", "trial")
    assert "Traceback" not in result.err
    assert "Not as expected" not in result.out


@pytest.mark.parametrize(
    ("now", "then", "word", "is_fault"),
    [
        (WELL, WELL, "same", False),
        (DIFFERS, WELL, "differs", True),
        (DIFFERS, DIFFERS, "differs", False),
        (DIFFERS, None, "differs", False),
        (FAR, DIFFERS, "differs", True),
        (BROKEN, WELL, "broken", True),
        (None, WELL, "unknown", False),
    ],
)
def test_new_answers_are_held_against_the_baseline_of_the_sweep(
    now: Asked | None, then: Asked | None, word: str, *, is_fault: bool
) -> None:
    first = trial(1, 200.0, then)
    (told,) = answers.files(first, [base(), first]).values()
    seen = answers.again(from_json(answers.Answers, told), trial(0, 200.0, now))
    assert (seen.now.word, seen.is_fault) == (word, is_fault), str(seen)
    assert ("in the sweep: unknown (was not asked)" in str(seen)) == (then is None)


def test_a_baseline_that_was_recommended_is_held_against_itself() -> None:
    first = base()
    (told,) = answers.files(first, [first, trial(1, 90.0, WELL)]).values()
    kept = from_json(answers.Answers, told)
    assert not answers.again(kept, base()).is_fault
    assert answers.again(kept, base(answers=DIFFERS)).is_fault
    assert str(answers.again(kept, base())).endswith("; in the sweep: it was the baseline")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Result:
    """A sweep that asked: its winner has four slots, and answers as the baseline does."""
    home = tmp_path_factory.mktemp("asked")
    own = {f"SERVETUNE_{name}_DIR": str(home / name) for name in ("STATE", "CACHE", "SLOTS")}
    env = {**own, "SERVETUNE_TESTS": str(TESTS), **SLOTS}
    words = ("parallel=null,4", "answers=null,stuck")
    return pipeline(*words, folder=home / "out", gguf=tiny_gguf, sweep=True, env=env)


@pytest.mark.parametrize(
    ("more", "code", "ending"),
    [
        ((), 0, "As expected."),
        (("answers=stuck",), 1, "Not as expected: what it answers is broken."),
        (("answers=stuck", "quality=none"), 0, "As expected."),
    ],
    ids=["as it was", "broken", "not to be asked"],
)
def test_what_the_winner_answers_is_checked_again(
    asked: Result, tmp_path: Path, more: Sequence[str], code: int, ending: str
) -> None:
    assert asked.code == 0, asked.err
    folder = shutil.copytree(asked.folder, tmp_path / "out")
    argv = [*command(sweep=False, module="pipeline.recheck"), str(folder / "best"), OPTIONS, *more]
    done = forked.run(argv, env={**os.environ, **SLOTS})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, ending), done.stdout + done.stderr
    is_asked = "quality=none" not in more
    assert ("Answers against the sweep's baseline: " in done.stdout) == is_asked
    assert ("; in the sweep: same (100% of " in done.stdout) == is_asked


def test_answers_that_cannot_be_read_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in (base(), trial(1, 200.0, WELL)):
        run_dir = RunDir(tmp_path / str(record.number))
        run_dir.path.mkdir()
        save(run_dir.record, record)
    summary.finish(tmp_path)
    (tmp_path / "best" / answers.NAME).write_text("{")
    assert recheck.main([str(tmp_path / "best")]) == 2
    assert "answers.json cannot be read: it is damaged, or was not written to its end." in capsys.readouterr().err
