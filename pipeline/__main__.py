"""`servetune`, or `python -m pipeline`: one trial; with -m a sweep. Exit codes: docs/failures.md."""

import os
import re
import signal
import sys
import traceback
from argparse import Namespace
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig

from pipeline import dry_run, reap
from pipeline.config import command_line
from pipeline.core.errors import ConfigError, Interrupted, PipelineError
from pipeline.core.files import SweepDir
from pipeline.core.places import CONF
from pipeline.machine import console, owner, signals
from pipeline.report import publication, summary
from pipeline.sweep import folders, launchers, session, tuner
from pipeline.trial import hardware

OK, NO_RESULT, BAD_CONFIG, REMAINS = 0, 1, 2, 3


@hydra.main(config_path=str(CONF), config_name="config")
def job(tree: DictConfig) -> float | tuple[float, ...] | None:
    """One Hydra job. Imports inside, because launchers send this function to other processes."""
    from pipeline.sweep import session

    return session.trial(tree)


def main() -> int:
    """Check the command, reap what earlier trials left, run, print the table."""
    sys.argv = [re.sub(r"^\+experiment=", "experiment=", word) for word in sys.argv]  # Hydra's habit; both are taken
    arguments = get_args_parser().parse_intermixed_args()
    looks_only = any((arguments.help, arguments.hydra_help, arguments.info, arguments.cfg))
    if looks_only or arguments.shell_completion:
        job()
        return OK
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to `_run`, which words them
    console.endure()
    try:
        with signals.interruptible(), signals.held():
            code = _run(_overrides(arguments), is_sweep=arguments.multirun)
            code = _finish(session.end(), code, is_sweep=arguments.multirun)
            folders.release()
            signals.acknowledge()  # a signal during the table finds nothing left to stop
    except Interrupted as stop:  # heard on the way into or out of these scopes, where nothing is deployed
        return _stopped(stop.signum)
    return code


def _overrides(arguments: Namespace) -> list[str]:
    """The overrides to check; Hydra's --config-dir said as the override that it is short for."""
    if arguments.config_dir is None:
        return list(arguments.overrides)
    return [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]", *arguments.overrides]


def _run(overrides: list[str], *, is_sweep: bool) -> int | None:  # noqa: PLR0911 - one code per kind of end
    """Everything but the table; an exit code, or None where the trials' results decide."""
    try:
        with signals.heard():
            outline = command_line.check(overrides, is_sweep=is_sweep, resolve=hardware.resolved)
            if outline.is_dry:
                shows = dry_run.show(overrides, is_sweep=is_sweep, is_elsewhere=outline.is_elsewhere)
                return OK if shows else NO_RESULT
            session.begin(outline)
            owner.announce()
            launchers.register()
            tuner.register()
            sys.argv += folders.settle(overrides, outline, is_sweep=is_sweep)
            _reap()
            job()
    except session.TrialFailed:
        return None
    except ConfigError as error:
        return _say(error, BAD_CONFIG)
    except (PipelineError, HydraException) as error:
        return _say(error, NO_RESULT)
    except BrokenPipeError:  # whoever reads, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # Hydra's own files; a trial's are in its record
        return _say(_unwritable(error), NO_RESULT)
    except (Interrupted, KeyboardInterrupt) as stop:
        return _stopped(stop.signum if isinstance(stop, Interrupted) else signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last line of defence; the table is still printed
        return _unexpected(error)
    return None


def _unexpected(error: Exception) -> int | None:
    if number := signals.unanswered():  # what it raised was lost in the middle of a library
        return _stopped(number)
    if "No trials are completed yet" in str(error):  # optuna's way of saying that every trial failed
        return None
    traceback.print_exception(error)
    return NO_RESULT


def _stopped(number: int) -> int:
    signals.acknowledge()
    sys.stderr.write(f"Stopped by {signal.Signals(number).name}.\n")
    return 128 + number


def _unwritable(error: OSError) -> PipelineError:
    return PipelineError(
        f"Cannot write the output folder: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}.",
        hint="Choose another one with hydra.run.dir=... or hydra.sweep.dir=..., or free some space.",
    )


def _reap() -> None:
    for owned, outcome in reap.reap():
        state = "removed" if outcome.is_clean else "could not be removed: run python -m pipeline.reap"
        sys.stderr.write(f"A trial that was killed had left its server: {state} ({owned.run_dir}).\n")


def _finish(folders: list[Path], code: int | None, *, is_sweep: bool) -> int:
    """Print, save and publish the ranking of each sweep folder; the exit code of it all."""
    runs = {folder: None if is_sweep else session.run_in(folder) for folder in folders}
    is_told = not is_sweep and session.has_told_failures()  # of a sweep, many lines ago
    sums = [summary.finish(folder, run=run, is_told=is_told) for folder, run in runs.items()]
    for folder, found in zip(folders, sums, strict=True):
        if is_sweep:
            publication.publish(SweepDir(folder), found.records)
    if any(found.remains for found in sums):
        return REMAINS
    if code is not None:
        return code
    return min((found.exit_code for found in sums), default=NO_RESULT)


def _say(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    if isinstance(error, PipelineError) and code != BAD_CONFIG:
        sys.stderr.write(f"hint: {error.hint}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
