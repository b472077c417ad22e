"""scripts/gpu-check: what it carries, what it stands in for, and what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_check import installed, needs, report, stand_in

RESULT: dict[str, Any] = {
    "gpus": [{"name": "NVIDIA L4", "driver": "580.1", "total_mib": 23034, "used_mib": 3}],
    "model parameters": 1_020_000_000,
    "trials": [
        {
            "trial": 0,
            "overrides": "continuous_batching=null",
            "status": "ok",
            "failure": None,
            "slots": {"gpus": "GPU-1"},
            "levels": {
                "D(256,64) x16": {
                    "output_tokens_per_s": 812.5, "ttft_mean_s": 0.0412, "tpot_mean_s": None, "errors": 0
                }
            },
        },
        {
            "trial": 1,
            "overrides": "continuous_batching=true",
            "status": "failed",
            "failure": "The server ended.",
            "slots": {},
            "levels": {},
        },
    ],
    "after the sweep": {"slots still held": [], "GPU memory used (MiB)": [3]},
    "after SIGKILL": {"slots still held": [], "GPU memory used (MiB)": [3]},
    "seconds": {"model": 12.0, "sweep": 99.5},
    "stubbed, never called": ["oci"],
    "problems": ["not so: every trial took a slot"],
    "ok": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "GPU: NVIDIA L4, driver 580.1, 23034 MiB, 3 MiB used before",
        "model: 1.02 billion parameters, random weights",
        "    0      812.5     0.0412          -       0  D(256,64) x16, continuous_batching=null",
        "    1  failed: The server ended.; continuous_batching=true",
        "after SIGKILL: slots still held: [], GPU memory used (MiB): [3]",
        "stubbed, never called: oci",
        "not so: every trial took a slot",
        "NOT all is well",
    ],
)
def test_the_table_says(words: str) -> None:
    assert words in report.table(RESULT).splitlines()


def test_what_is_carried_is_what_nothing_else_brings() -> None:
    found = needs.packages("3.12")
    assert {"genai-bench", "hydra-core", "optuna", "pydantic", "gevent"} <= found.keys()
    assert not found.keys() & {*needs.THERE, *needs.LEFT_OUT, *needs.STUBBED, "servetune"}


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_each_python_has_its_own_versions(version: str) -> None:
    assert needs.packages(version)["scipy"] == {"3.11": "1.17.1", "3.12": "1.18.1"}[version]


def test_nothing_is_missing_where_servetune_is_installed() -> None:
    assert installed.missing() == []


def test_every_stand_in_is_one_of_the_packages_that_are_not_carried() -> None:
    assert {*stand_in.NAMES} == {*needs.STUBBED.values()}


STAND_IN_USED = """
import oci.config
from oci.object_storage import ObjectStorageClient
from datasets.exceptions import DatasetNotFoundError
from PIL.Image import Image
import importlib.util
assert issubclass(DatasetNotFoundError, Exception)
assert oci.config.DEFAULT_PROFILE == "DEFAULT_PROFILE"
def annotated(x: "Image") -> Image | None: ...
try:
    ObjectStorageClient("x")
except RuntimeError as error:
    print(error)
print(importlib.util.find_spec("oci").origin)
"""


def test_a_stand_in_can_be_imported_but_not_called(tmp_path: Path) -> None:
    shutil.copy(installed.STUBS, tmp_path / "sitecustomize.py")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # -I would hide PYTHONPATH; a Python without packages has none of these
    argv = [str(Path(sys.base_prefix) / "bin" / "python3"), "-c", STAND_IN_USED]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "gpu-check stands in for this package, and ObjectStorageClient was called",
        "gpu-check",
    ]
