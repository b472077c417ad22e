"""The command: what it is asked for, and its steps in order."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpu_check import gpus, installed, report, wheels

ABOUT = """\
Make a model with random weights, sweep configurations of runtime=transformers on the GPU, kill one trial with SIGKILL,
and look whether everything is given back. Nothing is downloaded. Exit code 0: all is well, or there is no GPU here;
1: something is not; 2: a package is missing.
"""
EPILOG = """\
On a machine without internet: make the folder of wheels elsewhere, carry it along with this checkout, and run
  scripts/gpu-check --wheels wheels --python-version 3.12     (where there is internet)
  scripts/gpu-check --from wheels                             (where there is a GPU)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check, or make the folder of wheels that it needs."""
    options = _options(argv)
    if options.wheels:
        return wheels.make(options.wheels, options.python_version, options.there)
    found = gpus.look()
    if not found and not options.cpu:
        print("no GPU here: NVML sees none (--cpu checks the CPU instead)")
        return 0
    if options.wheels_from:
        return installed.again(options.wheels_from)
    if missing := installed.missing():
        print(f"not installed in {sys.executable}: {', '.join(missing)}\n\n{EPILOG}", file=sys.stderr)
        return 2
    from gpu_check.steps import Check  # needs what may be missing

    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        check = Check(folder=options.to or Path(folder), engine=options.engine, on_gpu=bool(found) and not options.cpu)
        result = check.run()
        if installed.stubs():
            result["stubbed, never called"] = installed.stubs()
    print(report.table(result))
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0 if result["ok"] else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=ABOUT, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="check the CPU, with a tiny model and two configurations")
    parser.add_argument(
        "--engine",
        metavar="PYTHON",
        type=Path,
        default=Path(sys.executable),
        help="has PyTorch, transformers, accelerate",
    )
    parser.add_argument(
        "--from", metavar="DIR", type=Path, dest="wheels_from", help="install these wheels first, aside"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, help="keep model, sweep and logs here")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result here too")
    parser.add_argument("--wheels", metavar="DIR", type=Path, help="make the folder of wheels; check nothing")
    parser.add_argument("--python-version", metavar="X.Y", default="3.12", help="of the machine with the GPU")
    parser.add_argument(
        "--there", metavar="FILE", type=Path, help="what is installed there, from `pip list --format=freeze`"
    )
    return parser.parse_args(argv)
