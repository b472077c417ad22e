"""`servetune`, or `python -m pipeline`: one trial; with -m a sweep. Exit codes: docs/failures.md."""

import os
import re
import shlex
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Collection, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig

from pipeline import dry_run, evaluate, reap
from pipeline.config import command_line, endpoints, kinds, sides
from pipeline.config.outline import Outline
from pipeline.core import disk
from pipeline.core.errors import CannotRun, ConfigError, DiskFull, Interrupted, PipelineError
from pipeline.core.files import SweepDir
from pipeline.core.places import CONF, PACKAGE
from pipeline.core.words import visible
from pipeline.machine import console, home, owner, signals
from pipeline.report import publication, summary
from pipeline.sweep import folders, launchers, session, spaced, tuner
from pipeline.trial import once

ONE_CONFIG = (
    "--config-name, --config-path and --experimental-rerun of Hydra's cannot be used: servetune has one configuration. "
    "Put yours into a file, e.g. FOLDER/experiment/mine.yaml, and add: --config-dir FOLDER experiment=mine."
)
OK, NO_RESULT, BAD_CONFIG, REMAINS = 0, 1, 2, 3


@hydra.main(config_path=str(CONF), config_name="config")
def job(tree: DictConfig) -> float | tuple[float, ...] | None:
    """One Hydra job. Imports inside, because launchers send this function to other processes."""
    from pipeline.sweep import session

    return session.trial(tree)


def main() -> int:
    """Check the command, reap what earlier trials left, run, print the table."""
    if told := _other_command(sys.argv[1:]):
        return _say(ConfigError(told), BAD_CONFIG)
    sys.argv = [re.sub(r"^\+experiment=", "experiment=", word) for word in sys.argv]  # Hydra's habit; both are taken
    arguments = get_args_parser().parse_intermixed_args()
    if told := _unusable(arguments):
        return _say(ConfigError(told), BAD_CONFIG)
    looks_only = any((arguments.help, arguments.hydra_help, arguments.info, arguments.cfg))
    if looks_only or arguments.shell_completion:
        return _look(arguments)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come to `_run`, which words them
    console.endure()
    try:
        home.settle()
        with signals.interruptible(), signals.held():
            code = _run(_overrides(arguments), is_sweep=arguments.multirun)
            code = _finish(session.end(), code, is_sweep=arguments.multirun)
            folders.release()
            signals.acknowledge()  # a signal during the table finds nothing left to stop
    except ConfigError as error:  # of the home folder
        return _say(error, BAD_CONFIG)
    except Interrupted as stop:  # heard on the way into or out of these scopes, where nothing is deployed
        return _stopped(stop.signum)
    return code


def _unusable(arguments: Namespace) -> str | None:
    """What to say to options of Hydra's that it would take, and we would not follow."""
    if arguments.config_name or arguments.config_path or arguments.experimental_rerun:
        return ONE_CONFIG
    is_lost = arguments.resolve and not (arguments.cfg or arguments.help)
    return "--resolve goes with --cfg, e.g. --cfg job --resolve." if is_lost else None


def _other_command(words: Sequence[str]) -> str | None:
    """What to say to the name of a command, or another word that no override begins with; Hydra would not know it."""
    word = words[0] if words else ""
    if not re.fullmatch(r"[a-z][a-z_-]*", word):
        return None
    name = word.replace("-", "_")
    is_ours = (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir() or name in ("knobs", "dry_run")
    told = f"It is a command of its own: servetune {shlex.join(words)}" if is_ours else "servetune --help shows all."
    return f"{word} is not an override such as n_threads=2. {told}"


def _look(arguments: Namespace) -> int:
    """Let Hydra print what it is asked for, once the overrides are known to be good."""
    try:
        if not arguments.shell_completion:
            command_line.look(_spelled(_overrides(arguments)))
    except ConfigError as error:
        return _say(error, BAD_CONFIG)
    job()
    return OK


def _overrides(arguments: Namespace) -> list[str]:
    """The overrides to check; Hydra's --config-dir said as the override that it is short for."""
    if arguments.config_dir is None:
        return list(arguments.overrides)
    return [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]", *arguments.overrides]


def _run(overrides: list[str], *, is_sweep: bool) -> int | None:  # noqa: PLR0911 - one code per kind of end
    """Everything but the table; an exit code, or None where the trials' results decide."""
    try:
        with signals.heard():
            code = _prepare(_spaced(_spelled(overrides), is_sweep=is_sweep), is_sweep=is_sweep)
            if code is not None:
                return code
            _reap()
            job()
    except session.TrialFailed:
        return None
    except (ConfigError, CannotRun) as error:
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


def _prepare(overrides: list[str], *, is_sweep: bool) -> int | None:
    """All that is known before anything starts: the checks, who measures, and where to. An exit code is the end."""
    outline = command_line.check(overrides, is_sweep=is_sweep, resolve=once.resolved, search=tuner.check)
    sys.stderr.write("".join(f"warned: {line}\n" for line in outline.warnings))
    if outline.is_dry:
        elsewhere = outline.is_elsewhere
        shows = dry_run.show(overrides, is_sweep=is_sweep, is_elsewhere=elsewhere, learned=outline.learned)
        return OK if shows else NO_RESULT
    sys.stderr.write("".join(f"{line}\n" for line in outline.learned))
    session.begin(outline)
    left_out = _insist(overrides, outline, is_sweep=is_sweep)
    owner.announce()
    launchers.register()
    if outline.knobs:
        sys.argv, words = sides.parted(sys.argv, overrides, outline.knobs)
        tuner.register(overrides, words, outline.knobs, left_out)
        session.begin(outline.without(left_out))
    else:
        tuner.register(overrides)
    sys.argv += folders.settle(overrides, outline, is_sweep=is_sweep)
    return None


def _spelled(overrides: list[str]) -> list[str]:
    """The overrides, and those that Hydra gets, without the name of the only engine in front."""
    made = command_line.spelled(overrides)
    plain = {word: again for word, again in zip(overrides, made, strict=True) if word != again}
    sys.argv = [plain.get(word, word) for word in sys.argv]
    return made


def _spaced(overrides: list[str], *, is_sweep: bool) -> list[str]:
    """The overrides, and those that Hydra gets, with the knobs of space=... instead of its name."""
    found = spaced.expanded(overrides, is_sweep=is_sweep)
    if found is None:
        return overrides
    is_dry = any(word.replace(" ", "").lower() == "dry_run=true" for word in overrides)
    (sys.stdout if is_dry else sys.stderr).write(found.told if is_dry else found.summary)
    dropped = [word for word in overrides if word not in found.overrides]
    added = [word for word in found.overrides if word not in overrides]
    sys.argv = [*(word for word in sys.argv if word not in dropped), *added]
    return found.overrides


def _insist(overrides: list[str], outline: Outline, *, is_sweep: bool) -> Collection[str]:
    """What is wrong for every trial ends the command here; that of trials on other machines, with the first of them.

    The engines that cannot run here, where another one can.
    """
    try:
        folders.insist(outline, is_sweep=is_sweep)
    except DiskFull as error:
        raise once.cannot_run([error], is_sweep=is_sweep) from error
    found = kinds.of(overrides, is_sweep=is_sweep)
    if outline.is_elsewhere:
        launchers.insist()
        session.end_if(once.judge(found))
    elif outline.is_here and outline.has_begun:  # perhaps nothing is left to run
        few = list(islice(found, once.MOST + 1))  # now: in the middle of a search Hydra composes nothing else
        session.at_first(lambda: once.insist(few, is_sweep=is_sweep))
    elif outline.is_here and not outline.is_cached and not outline.knobs:
        once.insist(found, is_sweep=is_sweep)
    if outline.knobs and outline.is_here and not outline.is_cached:
        return _left_out(overrides, outline)
    return ()


def _left_out(overrides: list[str], outline: Outline) -> Collection[str]:
    """Say which engines cannot run here, once."""
    causes = once.by_engine(kinds.by_engine(overrides, once.MOST + 1), may_be_all=outline.has_begun)
    for engine, some in causes.items():
        told = " ".join(f"{error} {error.hint}" for error in some)
        sys.stderr.write(f"warned: runtime={engine} is left out, the other engines are measured: {told}\n")
        session.at_end(partial(sys.stderr.write, f"Left out: runtime={engine}, which cannot run here.\n"))
    return [*causes]


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
    if disk.is_about_it(error):
        return disk.full(Path(error.filename).parent if error.filename else Path.cwd())
    return PipelineError(
        f"Cannot write the output folder: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}.",
        hint="Choose another one with hydra.run.dir=... or hydra.sweep.dir=..., or free some space.",
    )


def _reap() -> None:
    for owned, outcome in reap.reap():
        if owned.backend == endpoints.TARGET and outcome.is_clean:  # it had none
            continue
        state = "removed" if outcome.is_clean else "could not be removed: run python -m pipeline.reap"
        sys.stderr.write(f"A trial that was killed had left its server: {state} ({owned.run_dir}).\n")


def _finish(folders: list[Path], code: int | None, *, is_sweep: bool) -> int:
    """Print, save, evaluate and publish the ranking of each sweep folder; the exit code of it all."""
    runs = {folder: None if is_sweep else session.run_in(folder) for folder in folders}
    is_told = not is_sweep and session.has_told_failures()  # of a sweep, many lines ago
    sums = [summary.finish(folder, run=run, is_told=is_told) for folder, run in runs.items()]
    for folder, found in zip(folders, sums, strict=True):
        if is_sweep:
            try:
                if code is None:  # it came to its end: whoever has stopped it waits for no evaluation
                    evaluate.finish(folder, found)
            finally:  # what goes wrong there costs no publication
                publication.publish(SweepDir(folder), found.records)
    if any(found.remains for found in sums):
        return REMAINS
    if code is not None:
        return code
    return min((found.exit_code for found in sums), default=NO_RESULT)


def _say(error: Exception, code: int) -> int:
    sys.stderr.write(visible(f"error: {error}\n"))
    if isinstance(error, PipelineError) and not isinstance(error, ConfigError):
        sys.stderr.write(visible(f"hint: {error.hint}\n"))
    return code


if __name__ == "__main__":
    sys.exit(main())
