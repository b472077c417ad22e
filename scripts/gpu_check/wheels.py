"""Makes the folder of wheels on a machine with internet: what the check needs beside PyTorch and transformers."""

import subprocess
import sys
from pathlib import Path

from gpu_check.needs import LEFT_OUT, SERVING, STUBBED, normal, packages

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MB = 1e6


def make(folder: Path, python_version: str, there: Path | None) -> int:
    """Download them; 0 if all are there now."""
    known = {normal(line.partition("==")[0]) for line in there.read_text("utf-8").split()} if there else set()
    needed = packages(python_version)
    wanted = [f"{name}=={version}" for name, version in needed.items() if name not in known]
    wanted += [name for name in SERVING if name not in known and name not in needed]
    print(f"{len(wanted)} packages for Python {python_version} on x86-64", file=sys.stderr)
    if subprocess.run(_download(folder, python_version, wanted), check=False).returncode:
        return 1
    files = sorted(folder.glob("*.whl"), key=lambda path: -path.stat().st_size)
    for path in files:
        print(f"{path.stat().st_size / MB:7.2f} MB  {path.name}")
    print(f"{sum(path.stat().st_size for path in files) / MB:7.2f} MB  in {folder}, {len(files)} wheels")
    print(f"left out, not needed for the check: {', '.join(sorted(LEFT_OUT))}")
    print(f"stubbed where they are not installed, never called: {', '.join(sorted(STUBBED))}")
    return 0


def _with_pip() -> str:
    """An interpreter that has pip: this one, that of .uv (make setup), or python3."""
    own = Path(__file__).resolve().parent.parent.parent / ".uv" / "bin" / "python"
    asked = (sys.executable, str(own), "python3")
    return next((each for each in asked if _says_ok(each, "-m", "pip", "--version")), "python3")


def _says_ok(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _download(folder: Path, python_version: str, wanted: list[str]) -> list[str]:
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    for_that = ["--python-version", python_version, "--implementation", "cp", *platforms]
    pip = [_with_pip(), "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
    return [*pip, *for_that, "--dest", str(folder), *wanted]
