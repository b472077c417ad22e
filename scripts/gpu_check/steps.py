"""The steps of the check: a model, a sweep, a kill; after each one, what of the machine has been given back."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from gpu_check import gpus, measured

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = Path(__file__).with_name("model.py")
SIZE = {True: "1b", False: "tiny"}  # on a GPU; on the CPU
KNOBS = {
    True: ("continuous_batching=null,true", "attn_implementation=null,eager"),
    False: ("continuous_batching=null,true",),
}
# On a CPU the cache of pages would take most of the memory
SMALL = {True: (), False: ("cb_num_blocks=16", "cb_max_batch_tokens=256")}
LOAD = {
    True: ('traffic.scenarios=["D(256,64)"]', "traffic.concurrencies=[1,16]", "traffic.requests_per_user=2"),
    False: ('traffic.scenarios=["D(16,4)"]', "traffic.concurrencies=[2]", "traffic.requests_per_user=1"),
}
ALIKE_MIB = 64  # that a GPU's used memory may differ by while nobody uses it
BACK_S = 30.0
LIMIT_S = 540.0


class Check:
    """One check of this machine; `folder` keeps the model, the records and the logs."""

    def __init__(self, *, folder: Path, engine: Path, on_gpu: bool) -> None:
        self.folder = folder.resolve()
        self.engine = engine
        self.on_gpu = on_gpu
        self.seconds: dict[str, float] = {}
        self.problems: list[str] = []
        self.slots = self.folder / "slots"
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "SERVETUNE_SLOTS_DIR": str(self.slots),
            "SERVETUNE_STATE_DIR": str(self.folder / "state"),
            "HF_HUB_OFFLINE": "1",
        }

    def run(self) -> dict[str, Any]:
        """Every step; what was seen, and what was not as it should be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = gpus.look() if self.on_gpu else []
        with self._timed("model"):
            parameters = self._model()
        with self._timed("sweep"):
            self._sweep()
        trials = measured.trials(self.folder / "sweep")
        self._expect(
            len(trials) == self._count and all(trial["status"] == "ok" for trial in trials),
            f"{self._count} trials measured: {[trial['status'] for trial in trials]}, see {self.folder / 'sweep'}.log",
        )
        self._expect(all(trial["slots"] for trial in trials), "every trial took a slot")
        swept = self._given_back("the sweep", before)
        with self._timed("kill"):
            killed = self._kill()
        return {
            "gpus": [gpu._asdict() for gpu in before],
            "model parameters": parameters,
            "trials": trials,
            "after the sweep": swept,
            "after SIGKILL": {**killed, **self._given_back("SIGKILL", before)},
            "seconds": self.seconds,
            "problems": self.problems,
            "ok": not self.problems,
        }

    @property
    def _count(self) -> int:
        return 1 << len(KNOBS[self.on_gpu])

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        print(f"gpu-check: {step} ...", file=sys.stderr, flush=True)
        yield
        self.seconds[step] = round(time.monotonic() - start, 1)

    def _expect(self, is_so: object, words: str) -> None:
        if not is_so:
            self.problems.append(f"not so: {words}")

    def _model(self) -> int:
        argv = [str(self.engine), str(MODEL), str(self.folder / "model"), "--size", SIZE[self.on_gpu]]
        env = {**self.env, "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor")}  # else torch makes one in /tmp
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            raise SystemExit(f"gpu-check: the model could not be made with {self.engine}:\n{done.stderr[-2000:]}")
        return int(done.stdout)

    def _command(self, name: str, *words: str) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "pipeline", *words),
            *("runtime=transformers", f"runtime.python={self.engine}", f"runtime.version={self._version()}"),
            *("model=local", f"model.path={self.folder / 'model'}", "tracker=none", "bench.crowded=note"),
            *self._hardware(),
            *LOAD[self.on_gpu],
            *SMALL[self.on_gpu],
            *("traffic.min_requests=4", "traffic.warmup_requests=1"),
            *(
                "hydra.sweeper.confirm=0",
                f"hydra.sweep.dir={self.folder / name}",
                f"hydra.run.dir={self.folder / name}/0",
            ),
            f"bench.program={sys.executable}",  # asked for by the preflight; the resident runner does not call it
        )

    def _hardware(self) -> tuple[str, ...]:
        return (
            ("hardware=auto", "hardware.gpu_count=1") if self.on_gpu else ("hardware=cpu", "hardware.cores_per_trial=1")
        )

    def _version(self) -> str:
        ask = "import importlib.metadata as m; print(m.version('transformers'))"
        return subprocess.run([str(self.engine), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()

    def _sweep(self) -> None:
        with self._started(self._command("sweep", "-m", *KNOBS[self.on_gpu]), "sweep") as us:
            self._expect(us.wait(timeout=LIMIT_S) == 0, f"the sweep ends with exit code 0: {us.returncode}")

    def _kill(self) -> dict[str, Any]:
        """SIGKILL for the pipeline while it measures; how long until all that it started is gone."""
        measuring = self.folder / "killed" / "0" / "bench"
        with self._started(self._command("killed", "continuous_batching=true"), "killed") as us:
            self._expect(_until(lambda: measuring.exists() or us.poll() is not None, LIMIT_S), "a level begins")
            ours = psutil.Process(us.pid).children(recursive=True) if us.poll() is None else []
            self._expect(len(ours) > 1, "there is a server to leave behind")
            us.send_signal(signal.SIGKILL)
            us.wait()
            start = time.monotonic()
            gone = _until(lambda: not any(each.is_running() and each.status() != "zombie" for each in ours), BACK_S)
        self._expect(gone, f"the server is gone within {BACK_S:g} s of SIGKILL")
        return {"processes left": len(ours), "seconds until they were gone": round(time.monotonic() - start, 2)}

    @contextmanager
    def _started(self, argv: Sequence[str], name: str) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out, subprocess.Popen(argv, cwd=self.folder, env=self.env, stdout=out, stderr=out) as us:
            try:
                yield us
            finally:
                if us.poll() is None:
                    us.terminate()

    def _given_back(self, after: str, before: Sequence[gpus.Gpu]) -> dict[str, Any]:
        """Wait for slots and GPU memory; what is held, and the memory used now."""
        self._expect(_until(lambda: not _held(self.slots), BACK_S), f"every slot is given back after {after}")
        self._expect(
            _until(lambda: _alike(before, gpus.look() if before else []), BACK_S),
            f"GPU memory is back to before after {after}",
        )
        used = [gpu.used_mib for gpu in gpus.look()] if before else []
        return {"slots still held": _held(self.slots), "GPU memory used (MiB)": used}


def _alike(before: Sequence[gpus.Gpu], now: Sequence[gpus.Gpu]) -> bool:
    return all(seen.used_mib <= was.used_mib + ALIKE_MIB for was, seen in zip(before, now, strict=True))


def _held(folder: Path) -> list[str]:
    """The slots whose lock somebody has."""
    return sorted(path.name for path in folder.glob("*.lock") if not _is_free(path))


def _is_free(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _until(check: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not (seen := check()) and time.monotonic() < end:
        time.sleep(0.2)
    return seen


Result = Mapping[str, Any]
