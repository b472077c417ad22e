"""A sweep of the real engine that is killed with kill -9 and started again: nothing is lost, nothing is done twice."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.machine import process
from support.cli import Result, command, real_overrides
from support.places import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
TRIALS = 6
PATIENCE_S = 240.0


@pytest.fixture(autouse=True)
def parts(needs: Callable[..., None]) -> None:
    needs("genai_bench", "xllamacpp", "gguf", "tokenizers")


def measured(folder: Path) -> Mapping[str, bytes]:
    """What is on disk of the trials that have ended."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/record.json")}


def kill(argv: list[str], folder: Path, after: int, delay_s: float) -> None:
    """Start it and kill it, so many seconds after so many trials have ended."""
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as us:
        ended = process.wait_until(
            lambda: len(measured(folder)) >= after or us.poll() is not None, timeout_s=PATIENCE_S
        )
        time.sleep(delay_s)
        us.send_signal(signal.SIGKILL)
        assert us.wait(timeout=10) == -signal.SIGKILL, us.stdout and us.stdout.read()
        assert ended


def left(folder: Path) -> list[str]:
    """Processes that have to do with it, whoever their parent is now."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.pid != os.getpid() and str(folder) in " ".join([*one.cmdline(), *one.environ().values()]):
                found.append(f"{one.pid} {one.status()} {one.cmdline()}")
    return found


def test_two_kills_cost_two_interrupted_trials_at_most(
    tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what is killed leaves its temporary folder, if not what was in it
    seed = int.from_bytes(os.urandom(2))
    chance = random.Random(seed)  # noqa: S311 - nobody guesses it
    folder = tmp_path / "out"
    argv = [*command(sweep=True), *real_overrides(folder, tiny_gguf)]
    before: dict[str, bytes] = {}
    for after in (chance.randint(1, 2), chance.randint(3, 4)):
        kill(argv, folder, after, chance.uniform(0, 4))
        kept = measured(folder)
        assert before.items() <= kept.items(), f"seed {seed}"
        before.update(kept)
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    result = Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)

    assert result.code == 0, f"seed {seed}: {result}"
    assert before.items() <= measured(folder).items(), f"seed {seed}: a trial was measured twice"
    assert [record.number for record in result.records] == [*range(TRIALS)], f"seed {seed}"
    assert {record.status for record in result.records} == {"ok"}, f"seed {seed}"
    assert len({record.overrides for record in result.records}) == TRIALS, f"seed {seed}"
    interrupted = sorted(path.name for path in (folder / "attempts").glob("*"))
    assert len(interrupted) <= 2, f"seed {seed}: {interrupted}"
    assert (folder / "report.html").stat().st_size > 1e6
    assert f"trial {TRIALS}/{TRIALS}" in result.out
    assert (folder / "best" / "serve.sh").exists()
    assert process.wait_until(lambda: left(folder) == [], timeout_s=180), left(folder)
