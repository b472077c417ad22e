"""The real vLLM, tuned through the real command line: killed while measuring, resumed, killed itself, handed over."""

import signal
from pathlib import Path

import psutil
import pytest

from parts.handed_over import served
from parts.left_behind import nothing_left
from pipeline.core.errors import FailureKind
from pipeline.machine import process
from support.cli import Result
from support.engine_sweeps import PATIENCE_S, Engine, family, living, measuring

pytestmark = [pytest.mark.live, pytest.mark.timeout(2400)]
GONE_S = 120.0
KNOBS = ("max_num_seqs=2", "enable_prefix_caching=null,false")
LASTS = "traffic.min_requests=60"  # long enough to be killed in its middle
CORE = "VLLM::EngineCor"  # the kernel keeps 15 characters


@pytest.fixture(scope="module")
def swept(vllm: Engine, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A sweep of two trials, three starts: killed while it measured the first one, started again; the second one dies.

    All of it in one sweep, because a start takes long.
    """
    folder = tmp_path_factory.mktemp("sweep") / "out"
    argv = vllm.sweep(folder, *KNOBS, LASTS)
    with nothing_left() as tmp:
        with measuring(argv, folder, tmp=tmp) as us:
            started = family(us)
            us.send_signal(signal.SIGKILL)
            us.wait(timeout=10)
        assert len(started) > 2
        assert not (folder / "0" / "record.json").exists()
        _expect_gone(started)
        with measuring(argv, folder, trial=1, tmp=tmp) as us:
            started = family(us)
            next(one for one in started if one.name().startswith(CORE)).kill()
            out, _ = us.communicate(timeout=PATIENCE_S)
        _expect_gone(started)
    return Result(code=us.returncode, out=out, err="", folder=folder)


def _expect_gone(started: list[psutil.Process]) -> None:
    assert process.wait_until(lambda: living(started) == [], timeout_s=GONE_S), living(started)


def test_after_sigkill_while_measuring_nothing_is_left_and_the_sweep_goes_on(swept: Result) -> None:
    assert swept.code == 0, swept.out
    first, second = swept.records
    assert first.status == "ok"
    (level,) = first.levels
    assert level.metrics is not None
    assert level.metrics.num_errors == 0
    assert level.metrics.output_tokens_mean == 8
    assert level.cache_reset == "reset by /reset_prefix_cache"
    assert first.settings is not None
    assert first.engine_version == "0.32.0"
    for record in (first, second):
        assert record.config.knobs["max_num_seqs"] == 2
        assert record.teardown is not None
        assert record.teardown.is_clean


def test_a_killed_engine_core_is_a_death_while_measuring(swept: Result) -> None:
    _, record = swept.records
    assert record.failure is not None
    assert record.failure.step == "bench"
    assert record.failure.kind in {FailureKind.SERVER_DIED, FailureKind.OOM_HOST}  # where the kernel cannot be asked


def test_what_is_handed_over_answers_nothing_without_its_key(swept: Result, short: Path) -> None:
    script = swept.folder / "best" / "serve.sh"
    if not script.exists():
        pytest.fail("no best/: the sweep before this did not end well")
    with served(script, short, timeout_s=PATIENCE_S) as up:
        assert up.ask("GET /v1/models", key=up.key) == 200
        assert up.open_paths() == {}
