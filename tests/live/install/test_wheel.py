"""The wheel, installed away from the checkout: a sweep, its report and its check run from any working directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from parts import lacking
from pipeline.core.files import RunDir
from pipeline.core.record import Record
from pipeline.core.values import load
from support.places import ROOT

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

TIMEOUT_S = 300
DECOY = 'raise SystemExit("a folder of the user, named as our package")\n'


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and an empty working directory elsewhere."""

    environment: Path
    folder: Path
    model: Path

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command with the environment's programs first on PATH, as after its activation."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "SERVETUNE_"))}
        own = {
            "PATH": f"{self.environment / 'bin'}:{os.environ['PATH']}",
            "SERVETUNE_STATE_DIR": str(self.folder.parent / "state"),
            "SERVETUNE_CACHE_DIR": str(self.folder.parent / "cache"),
            "SERVETUNE_SLOTS_DIR": str(self.folder.parent / "slots"),
        }
        return subprocess.run(
            argv, cwd=self.folder, env=kept | own, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def said(self, *argv: str) -> str:
        """What a command says that must end well."""
        done = self.run(*argv)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    found = ROOT / ".uv" / "bin" / "uv"
    program = str(found) if found.exists() else shutil.which("uv")
    return program or lacking("uv is neither in .uv nor on PATH (make setup)")


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, so that what the sdist lacks is missed."""
    folder = tmp_path_factory.mktemp("dist")
    argv = [uv, "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder), str(ROOT)]
    if subprocess.run([*argv, "--offline"], capture_output=True, check=False).returncode:
        subprocess.run(argv, check=True)  # the build's own requirements are not in uv's cache
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(
    uv: str, wheel: Path, tiny_gguf: Path, needs: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """An environment that has every package but ours from the project's, and ours from the wheel."""
    needs("genai_bench", "xllamacpp", "gguf", "tokenizers")
    home = tmp_path_factory.mktemp("elsewhere")
    made = Installed(environment=home / "venv", folder=home / "work", model=tiny_gguf)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(made.environment)], check=True)
    scheme = {"base": str(made.environment), "platbase": str(made.environment)}
    (Path(sysconfig.get_path("purelib", vars=scheme)) / "others.pth").write_text(sysconfig.get_path("purelib"))
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(made.environment)]
    subprocess.run([*install, str(wheel)], check=True)
    (made.environment / "bin" / "genai-bench").symlink_to(Path(sys.executable).with_name("genai-bench"))
    (made.folder / "pipeline").mkdir(parents=True)
    (made.folder / "pipeline" / "__init__.py").write_text(DECOY)
    return made


@pytest.fixture(scope="module")
def sweep(installed: Installed) -> Path:
    """The folder of a sweep in a worker process; its second trial resolves as the first and is not deployed."""
    words = [
        "model=gguf",
        f"model.path={installed.model}",
        "tracker=none",
        'traffic.scenarios=["D(16,8)"]',
        "traffic.concurrencies=[1]",
        "traffic.min_requests=4",
        "traffic.requests_per_user=2",
        "hydra/launcher=parallel",
        "n_parallel=null,1",
        "hydra.sweeper.confirm=0",
    ]
    out = installed.said("servetune", "-m", *words)
    (folder,) = (installed.folder / "outputs").iterdir()
    assert f"Records: {folder}" in out
    return folder


def test_our_code_and_all_its_files_come_from_the_wheel(installed: Installed) -> None:
    program = "import pipeline; from pipeline.core.places import CONF, TEMPLATES; print(pipeline.__path__[0])\n"
    program += "print(CONF, *sorted(CONF.rglob('*.*')))\nprint(TEMPLATES, *sorted(TEMPLATES.rglob('*.*')))"
    package, conf, templates = installed.said("python", "-P", "-c", program).splitlines()
    assert Path(package).is_relative_to(installed.environment)
    assert conf == listed("conf", Path(package))
    assert templates == listed("templates", Path(package))


def listed(name: str, package: Path) -> str:
    """The files of a folder of the checkout, as they lie in the package."""
    inside = [package / path.relative_to(ROOT) for path in (ROOT / name).rglob("*.*")]
    return " ".join(map(str, [package / name, *sorted(inside)]))


def test_a_sweep_leaves_its_records_below_the_working_directory(sweep: Path, installed: Installed) -> None:
    record = load(Record, RunDir(sweep / "0").record)
    assert record.status == "ok"
    assert {path.name for path in installed.folder.iterdir()} == {"outputs", "pipeline"}


def test_the_report_is_made_again(sweep: Path, installed: Installed) -> None:
    (sweep / "report.html").unlink()
    assert "Best: " in installed.said("servetune", "report", str(sweep.relative_to(installed.folder)))
    assert (sweep / "report.html").exists()


def test_the_winner_is_checked_again_by_its_script(sweep: Path, installed: Installed) -> None:
    """What it finds depends on what else the machine does meanwhile; that it measures and compares does not."""
    done = installed.run(str(sweep / "best" / "recheck.sh"), "--tolerance", "1", "--latency-tolerance", "1")
    *_, last = done.stdout.splitlines()
    assert (done.returncode, last.split(":")[0]) in {(0, "As expected."), (1, "Not as expected")}
    assert done.stderr == ""
    assert len([*sweep.glob("recheck/*/0/record.json")]) == 1


def test_the_small_commands_answer(installed: Installed) -> None:
    assert re.match(r"servetune \d+\.\d+\.\d+\n", installed.said("servetune", "--version"))
    assert "attention_backend" in installed.said("servetune", "knobs", "sglang")
    assert "complete -F _servetune servetune" in installed.said("servetune", "--completion", "bash")
    assert installed.said("servetune", "--complete", "servetune runtime=vl").startswith("runtime=vllm\t")
