"""The real vLLM, tuned through the real command line: killed while measuring, resumed, handed over."""

import signal
from pathlib import Path

import pytest

from parts.handed_over import served
from parts.left_behind import nothing_left
from pipeline.core.errors import FailureKind
from pipeline.machine import process
from support.cli import Result
from support.engine_sweeps import LONG_LOAD, PATIENCE_S, Engine, family, living, measuring, run

pytestmark = [pytest.mark.live, pytest.mark.timeout(2400)]
GONE_S = 120.0
KNOBS = ("max_num_seqs=null,2", "traffic.min_requests=60")  # a level that lasts, to be killed in its middle


@pytest.fixture(scope="module")
def swept(vllm: Engine, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A sweep of two trials that was killed while it measured the first one, and started again: three starts."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    argv = vllm.sweep(folder, *KNOBS)
    with nothing_left() as tmp:
        with measuring(argv, folder, tmp=tmp) as us:
            started = family(us)
            us.send_signal(signal.SIGKILL)
            us.wait(timeout=10)
        assert len(started) > 2
        assert not (folder / "0" / "record.json").exists()
        assert process.wait_until(lambda: living(started) == [], timeout_s=GONE_S), living(started)
        return run(argv, folder, tmp=tmp)


def test_after_sigkill_while_measuring_nothing_is_left_and_the_sweep_goes_on(swept: Result) -> None:
    assert swept.code == 0, f"{swept.out}\n{swept.err}"
    assert [record.status for record in swept.records] == ["ok", "ok"]
    for record in swept.records:
        (level,) = record.levels
        assert level.metrics is not None
        assert level.metrics.num_errors == 0
        assert level.metrics.output_tokens_mean == 8
        assert level.cache_reset == "reset by /reset_prefix_cache"
        assert record.settings is not None
        assert record.engine_version == "0.32.0"
        assert record.teardown is not None
        assert record.teardown.is_clean
    assert swept.records[1].config.knobs["max_num_seqs"] == 2


def test_what_is_handed_over_answers_nothing_without_its_key(swept: Result, short: Path) -> None:
    script = swept.folder / "best" / "serve.sh"
    if not script.exists():
        pytest.fail("no best/: the sweep before this did not end well")
    with served(script, short, timeout_s=PATIENCE_S) as up:
        assert up.ask("GET /v1/models", key=up.key) == 200
        assert up.open_paths() == {}


def test_a_killed_engine_core_is_a_death_while_measuring(vllm: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    argv = vllm.sweep(folder, "max_num_seqs=null", *LONG_LOAD)
    with nothing_left() as tmp, measuring(argv, folder, tmp=tmp) as us:
        started = family(us)
        core = next(
            one for one in started if one.name().startswith("VLLM::EngineCor")
        )  # the kernel keeps 15 characters
        core.kill()
        us.wait(timeout=GONE_S)
    (record,) = Result(code=us.returncode, out="", err="", folder=folder).records
    assert record.failure is not None
    assert record.failure.step == "bench"
    assert record.failure.kind in {FailureKind.SERVER_DIED, FailureKind.OOM_HOST}  # where the kernel cannot be asked
    assert record.teardown is not None
    assert record.teardown.is_clean
    assert living(started) == []
    assert us.returncode == 1
