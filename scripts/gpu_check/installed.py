"""What this interpreter has, and the wheels that are put beside it: into a folder, never into its environment."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path

from gpu_check.needs import LEFT_OUT, STUBBED, normal, requirements

ROOT = Path(__file__).resolve().parent.parent.parent
ASIDE = "GPU_CHECK_SITE"  # the folder, in the process that uses it
STUBS = Path(__file__).with_name("stand_in.py")


def missing() -> list[str]:
    """The packages of servetune that cannot be imported from here and are not left out on purpose."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [normal(each) for each in requirements(project["dependencies"])]
    return [name for name in needed if name not in LEFT_OUT and not has(name)]


def has(name: str) -> bool:
    """Whether a package is installed here."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def stubs() -> list[str]:
    """The modules that are stood in for here, as what is never called."""
    return [name for name in STUBBED.values() if _is_stub(importlib.util.find_spec(name))]


def _is_stub(spec: ModuleSpec | None) -> bool:
    return spec is not None and spec.origin == "gpu-check"


def again(wheels: Path) -> int:
    """Unpack the wheels that this interpreter lacks into a folder of their own, and run the same command with them."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-site-") as site:
        for path in sorted(wheels.glob("*.whl")):
            if not has(path.name.split("-")[0]):
                zipfile.ZipFile(path).extractall(site)  # a wheel is what it installs; programs are not needed
        shutil.copy(STUBS, Path(site, "sitecustomize.py"))
        at = sys.argv.index("--from")
        argv = [sys.executable, *sys.argv[:at], *sys.argv[at + 2 :]]
        places = os.pathsep.join(filter(None, [site, str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.run(argv, env={**os.environ, "PYTHONPATH": places, ASIDE: site}, check=False).returncode
