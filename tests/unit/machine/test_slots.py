"""Who gets which GPUs and cores, on real locks: nobody shares, all or nothing, and what is in the way is told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parts.nvml import Machine
from pipeline.core.errors import ConfigError, FailureKind, PreflightFailed
from pipeline.core.plan import Slots
from pipeline.core.schema import Config
from pipeline.core.schema_backends import Container
from pipeline.core.values import to_json
from pipeline.machine import amd_gpus, locks, process, slots
from support.places import ROOT
from support.records import CONFIG, make_config

CORES = sorted(os.sched_getaffinity(0))


class Enough(Exception):
    """The test has waited long enough."""


def on(gpus: int = 0, **hardware: Any) -> Config:
    """A trial of a runtime that takes all GPUs of its configuration."""
    machine = {"name": "h", "gpu_count": gpus, "vendor": "nvidia", **hardware}
    return make_config(hardware=machine, runtime={**CONFIG["runtime"], "gpu_knobs": []})


@contextmanager
def taken(config: Config, *, patience: int = 0) -> Iterator[Slots]:
    """The slots; Enough once it had to wait more often than that."""
    waited: list[str] = []

    def tell(said: str) -> None:
        waited.append(said)
        if len(waited) > patience:
            raise Enough(said)

    with slots.taken(config, Path("/out/3"), tell) as held:
        yield held.slots


def elsewhere(config: Config, *, then: str) -> subprocess.Popen[str]:
    """Another process that takes the slots, says so, and goes on."""
    script = (
        "import sys; from pathlib import Path; from pipeline.machine import slots\n"
        "from pipeline.core.schema import Config; from pipeline.core.values import from_json\n"
        "with slots.taken(from_json(Config, sys.argv[1]), Path('/out/other'), print) as held:\n"
        f"    print(*held.slots.gpu_ids, flush=True); {then}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, to_json(config)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_trial_without_gpus_and_cores_of_its_own_takes_nothing() -> None:
    with taken(on()) as own:
        assert own == Slots()
    assert not locks.folder().exists()


def test_without_nvml_the_configuration_is_believed() -> None:
    with taken(on(2)) as own:
        assert own.gpu_ids == ("0", "1")
        assert own.gpu_used_mib == {}


def test_only_named_gpus_are_taken(machine: Machine) -> None:
    machine.has(8)
    with taken(on(2, gpu_ids=["5", "GPU-00000006", "7"])) as own:
        assert own.gpu_ids == ("5", "6")
        assert own.gpu_used_mib == {"GPU-00000005": 500, "GPU-00000006": 500}


def test_a_job_s_own_gpus_are_kept_to(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    with taken(on(1)) as first, taken(on(1)) as second:
        assert (first.gpu_ids, second.gpu_ids) == (("6",), ("7",))


def test_named_gpus_that_slurm_gave_another_job_are_not_taken(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has(8)
    monkeypatch.setenv("SLURM_JOB_ID", "5000")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    with taken(on(1, gpu_ids=["0", "7"])) as own:
        assert own.gpu_ids == ("7",)
    with pytest.raises(PreflightFailed, match="may choose from 1"), taken(on(2, gpu_ids=["0", "7"])):
        pass


@pytest.mark.parametrize("has_nvml", [True, False], ids=["NVML", "without NVML"])
def test_named_gpus_that_are_hidden_are_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, has_nvml: bool
) -> None:
    machine.has(8)
    if not has_nvml:
        monkeypatch.delenv("STANDIN_NVML")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=6,7 hides GPU 0"), taken(on(1, gpu_ids=["0", "7"])):
        pytest.fail("GPU 0 was given out")


def test_slices_of_a_gpu_are_given_out_by_their_ids(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.has(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,MIG-2")
    with taken(on(1)) as first, taken(on(1)) as second:
        assert (first.gpu_ids, second.gpu_ids) == (("MIG-1",), ("MIG-2",))


def test_trials_never_share_a_gpu() -> None:
    with ExitStack() as stack:
        given = [stack.enter_context(taken(on(2, gpu_ids=list("0123")))).gpu_ids for _ in range(2)]
        assert given == [("0", "1"), ("2", "3")]
        with pytest.raises(Enough) as waits, taken(on(2, gpu_ids=list("0123"))):
            pass
        told = f"GPU 0: trial /out/3 (pid {os.getpid()})"
        assert str(waits.value).startswith(f"waiting for 2 GPUs ({told}; GPU 1: trial /out/3")


def test_who_waits_holds_nothing() -> None:
    with taken(on(1)), pytest.raises(Enough), taken(on(2)):
        pass
    with taken(on(1)), taken(on(1, gpu_ids=["0", "1"])) as own:
        assert own.gpu_ids == ("1",)


def test_what_is_given_back_is_taken_by_who_waits() -> None:
    with elsewhere(on(1), then="sys.stdin.read()") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "0\n"
        with pytest.raises(Enough, match=f"GPU 0: trial /out/other .pid {other.pid}."), taken(on(1)):
            pass
        other.communicate()
        with taken(on(1), patience=20) as own:
            assert own.gpu_ids == ("0",)


def test_a_killed_holder_holds_nothing() -> None:
    with elsewhere(on(1), then="sys.stdin.read()") as other:
        assert other.stdout is not None
        other.stdout.readline()
        os.kill(other.pid, signal.SIGKILL)
        with taken(on(1), patience=20) as own:
            assert own.gpu_ids == ("0",)


def test_a_lock_lasts_while_a_keeper_has_it(tmp_path: Path) -> None:
    with slots.taken(on(1), Path("/out/3"), print) as held:
        keeper = process.spawn_piped(
            [sys.executable, "-c", "input()"], log=tmp_path / "log", env=os.environ, files=held.files
        )
    with pytest.raises(Enough), taken(on(1)):
        pass
    keeper.communicate(b"\n")
    with taken(on(1)):
        pass


def test_many_processes_share_few_gpus() -> None:
    """Four that want two of four GPUs each, at the same time: none waits for another for ever, none shares."""
    log = locks.folder().parent / "held"
    write = "o = open({path!r}, 'a', buffering=1); o.write('+' + ''.join(held.slots.gpu_ids) + chr(10)); "
    end = "import time; time.sleep(0.2); o.write('-' + ''.join(held.slots.gpu_ids) + chr(10))"
    then = write.format(path=str(log)) + end
    children = [elsewhere(on(2, gpu_ids=list("0123")), then=then) for _ in range(4)]
    for child in children:
        child.communicate(timeout=240)
    held: set[str] = set()
    for line in log.read_text().split():
        if line[0] == "+":
            assert not held & set(line[1:]), "shared"
            held |= set(line[1:])
        else:
            held -= set(line[1:])
    assert [child.returncode for child in children] == [0] * 4


def test_a_gpu_that_a_stranger_uses_is_left_alone(machine: Machine) -> None:
    machine.has(2, {"processes": {os.getpid(): 20000}})
    with taken(on(1)) as own:
        assert own.gpu_ids == ("1",)


def test_strangers_on_all_gpus_are_named_after_a_while(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SETTLE_S", 0.6)
    machine.has(1, {"processes": {os.getpid(): 20000}})
    with pytest.raises(PreflightFailed, match=f"other programs use them: GPU 0: process {os.getpid()}") as caught:  # noqa: SIM117
        with taken(on(1), patience=9):
            pass
    assert caught.value.kind == FailureKind.GPU_BUSY
    with taken(on(1, take_busy_gpus=True)) as own:
        assert own.gpu_ids == ("0",)


def test_a_process_that_is_about_to_end_is_waited_for(machine: Machine) -> None:
    machine.has(1, {"processes": {4194305: 20000}})
    waits = iter([None])

    def tell(_said: str) -> None:
        next(waits)
        machine.has(1)

    with slots.taken(on(1), Path("/out/3"), tell) as held:
        assert held.slots.gpu_ids == ("0",)


def test_more_gpus_than_there_are_is_told_at_once(machine: Machine) -> None:
    machine.has(1)
    with pytest.raises(PreflightFailed, match=r"The trial needs 2 GPUs; it may choose from 1\."), taken(on(2)):
        pass


def test_cores_are_given_out_like_gpus() -> None:
    with taken(on(cores_per_trial=1)) as own:
        assert len(own.cores) == 1
        assert own.cores[0] in CORES
        with pytest.raises(Enough, match=f"waiting for {len(CORES)} cores"), taken(on(cores_per_trial=len(CORES))):
            pass


def test_more_cores_than_there_are_is_told_at_once() -> None:
    with pytest.raises(PreflightFailed, match=rf"needs 4096 cores; it may choose from {len(CORES)}\."):  # noqa: SIM117
        with taken(on(cores_per_trial=4096)):
            pass


def test_an_engine_runs_on_its_cores_and_we_on_all(tmp_path: Path) -> None:
    script = "import os; print(sorted(os.sched_getaffinity(0)))"
    log = tmp_path / "log"
    pid = process.spawn([sys.executable, "-c", script], log=log, env=os.environ, cores=CORES[:1])
    assert process.wait_until(lambda: process.exit_code(pid) == 0, timeout_s=180)
    assert json.loads(log.read_text()) == CORES[:1]
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_the_doctor_is_told_who_has_what(machine: Machine) -> None:
    machine.has(3, {}, {"processes": {4194305: 20000}})
    with taken(on(1)):
        told = slots.survey(on(1))
    assert told.startswith("3 to choose from; GPU 0: trial /out/3")
    assert told.endswith("GPU 1: process 4194305 (?)")
    machine.has(1)
    assert slots.survey(on(1)) == "1 to choose from; all free"


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SERVETUNE_SLOTS_DIR", str(tmp_path / "file" / "slots"))
    with pytest.raises(PreflightFailed, match="with the locks of GPUs and cores") as caught, taken(on(1)):
        pass
    assert "SERVETUNE_SLOTS_DIR" in caught.value.hint


def test_one_trial_at_a_time_measures_a_server_that_is_there() -> None:
    def at(url: str) -> Config:
        made = on()
        return replace(made, backend=replace(made.backend, url=url))

    with taken(at("http://a/x")) as slots_:
        assert slots_ == Slots()
        with (
            pytest.raises(Enough, match=r"waiting for 1 endpoint .*http://a/x: .*trial /out/3"),
            taken(at("http://a/x")),
        ):
            pass
        with taken(at("http://b")):
            pass
    with taken(at("http://a/x")):
        pass


@pytest.mark.parametrize("named", ["3", " 03", "GPU-00000003", "GPU-00000003 "])
@pytest.mark.parametrize("visible", [None, "0, 3", "GPU-00000000, GPU-00000003"])
def test_one_gpu_has_one_lock_however_it_is_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, named: str, visible: str | None
) -> None:
    machine.has(8)
    with taken(on(1, gpu_ids=["3"])):
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(Enough, match="GPU 3: trial"), taken(on(1, gpu_ids=[named])):
            pytest.fail("the GPU was given out twice")


@pytest.mark.parametrize(
    ("visible", "free"), [("6, 7", ["6", "7"]), ("6,,7", ["6"]), ("6,-1,7", ["6"]), ("6,99,7", ["6"]), ("-1", [])]
)
def test_only_what_cuda_would_show_is_given_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str, free: list[str]
) -> None:
    machine.has(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert f"may choose from {len(free)}" in insisted(on(8))
    for count in range(1, len(free) + 1):
        with taken(on(count)) as own:
            assert list(own.gpu_ids) == free[:count]


def insisted(config: Config) -> str:
    with pytest.raises(PreflightFailed) as told:
        slots.insist(config)
    return str(told.value)


def test_amd_gpus_behind_rocr_share_the_lock_of_the_whole_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node, unique in enumerate((0, 0xAA, 0xBB)):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "properties").write_text(f"simd_count {unique}\nunique_id {unique}\n")
    monkeypatch.setattr(amd_gpus, "NODES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with taken(on(1, gpu_ids=["1"], vendor="amd")) as first:
        assert first.gpu_ids == ("1",)
        monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "GPU-00000000000000bb")
        with pytest.raises(Enough, match="GPU 0: trial"), taken(on(1, vendor="amd")):
            pytest.fail("the GPU was given out twice")
        monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0")
        with taken(on(1, vendor="amd")) as second:
            assert second.gpu_ids == ("0",)


def test_a_container_has_no_rocr_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amd_gpus, "NODES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,3")
    config = on(1, gpu_ids=["1"], vendor="amd")
    with taken(replace(config, backend=replace(config.backend, container=Container()))) as own:
        assert own.gpu_ids == ("3",)
