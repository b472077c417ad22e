"""`servetune stop`: end sweeps, or one trial of a sweep, the way that Ctrl-C goes: teardown, record, and then the end.

Processes are told by their identity, never by a name. Afterwards we look at what they leave: the leases on disk say
whether all that was deployed is gone, and was seen to be gone.
"""

import argparse
import errno
import math
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.backends import lease, teardown
from pipeline.core.files import RunDir
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.machine import entry, identity, process, signals
from pipeline.machine.identity import Identity
from pipeline.trial import at_work, overview
from pipeline.trial.at_work import Running
from pipeline.trial.overview import Sweep

OK, BAD_INPUT, REMAINS = 0, 2, 3
PATIENCE_S = 300.0  # for the teardown, the record and the tracker of every trial, and the table
KEEPER_S = 5.0  # for the keeper of a trial whose process was killed; two may be at the same teardown
LOOK_S = 0.2
ABOUT = """Without arguments: all sweeps and trials of this machine, as `servetune ps` lists them. With FOLDER: the
sweep, or the trial, in that folder. With FOLDER and TRIAL: that trial alone; its sweep goes on, and learns nothing
from it.

Each trial tears its server down, looks that it is gone, and leaves its record. A search that was stopped goes on when
you give its command again. A trial that was stopped alone is not run again.

Exit codes: 0, all of it is gone; 2, there is no such folder or trial; 3, something remains, and is named."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.stop") -> int:
    """The command. 0: all of it is gone; 2: no such folder or trial; 3: something remains."""
    options = _options(argv, prog)
    folder: Path | None = options.folder
    if folder and not folder.is_dir():
        return _refuse(f"there is no folder {folder}.")
    view = overview.look()
    sweeps = [one for one in view.sweeps if folder in {None, one.folder}]
    if folder and not sweeps and (alone := _trial_in(folder)):
        return _stop_trial(alone, options.timeout)
    if folder and options.trial is not None:
        return _stop_numbered(folder, options.trial, options.timeout)
    left = [one.label for one in view.left_behind if folder is None or one.run_dir.is_relative_to(folder)]
    if not sweeps and not left:
        print(f"Nothing runs in {folder}." if folder else "Nothing runs.")
    return max(_stop(sweeps, options.timeout), _remove(left))


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="End sweeps, or one trial of a sweep, as Ctrl-C does: with teardown and record.",
        epilog=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=_folder, metavar="FOLDER", help="folder of a sweep or of a trial")
    parser.add_argument("trial", nargs="?", type=int, metavar="TRIAL", help="number of one trial in that folder")
    parser.add_argument(
        "--timeout", type=_seconds, default=PATIENCE_S, metavar="SECONDS", help="how long to wait; default: %(default)g"
    )
    return parser.parse_args(argv)


def _folder(word: str) -> Path:
    return Path(word).expanduser().resolve()


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{word}: expected a number of seconds, 0 or more")
    return seconds


def _refuse(said: str) -> int:
    sys.stderr.write(f"error: {said} See what runs: servetune ps\n")
    return BAD_INPUT


def _trial_in(folder: Path) -> Running | None:
    """The trial of a sweep that runs in this folder."""
    return next((one for one in at_work.trials() if one.run_dir == folder), None)


def _stop_numbered(folder: Path, number: int, timeout_s: float) -> int:
    """The trial with this number, of the sweep in this folder."""
    own = [one for one in at_work.trials() if one.run_dir.parent == folder]
    found = next((one for one in own if one.number == number), None)
    if found:
        return _stop_trial(found, timeout_s)
    if done := _record(folder / str(number)):
        print(f"Trial {number} has ended already: {done.status}.")
        return OK
    running = ", ".join(str(one.number) for one in own) or "none"
    return _refuse(f"trial {number} of {folder} does not run (running: {running}).")


def _stop_trial(running: Running, timeout_s: float) -> int:
    """End one trial; its sweep goes on."""
    name = f"trial {running.number} of {running.run_dir.parent}"
    if not at_work.is_here(running.owner):
        print(f"NOT STOPPED: {name} runs on {running.owner.host}: run servetune stop there, or cancel its job.")
        return REMAINS
    path = at_work.path_of(running)
    owned = [one.label for one in lease.all_registered() if one.owner == running.owner]
    at_work.wish(running).touch()
    if problem := _signal(running.owner, signals.WAKE):
        at_work.wish(running).unlink(missing_ok=True)
        print(f"NOT STOPPED: {name}: {problem}")
        return REMAINS
    print(f"{name}: told to stop (process {running.owner.pid})", flush=True)
    is_over = process.wait_until(
        lambda: not path.exists() or not identity.is_alive(running.owner), timeout_s=timeout_s, interval_s=LOOK_S
    )
    if not is_over:
        print(f"STILL RUNS after {timeout_s:g} s: {name}, process {running.owner.pid}")
        return REMAINS
    print(f"  {_ended(running.run_dir)}")
    return _named_remains([one for one in owned if lease.registered(one).exists()])


def _stop(sweeps: Sequence[Sweep], timeout_s: float) -> int:
    """End them all at once."""
    told = {owner: sweep for sweep in sweeps for owner in _owners(sweep)}
    codes = [OK]
    for owner, sweep in told.items():
        if problem := _signal(owner, signal.SIGTERM):
            print(f"NOT STOPPED: {sweep.folder}: {problem}")
            codes.append(REMAINS)
        else:
            print(f"{sweep.folder}: told to stop (process {owner.pid})", flush=True)
    owners = {*told, *(one.owner for sweep in sweeps for one in sweep.trials if at_work.is_here(one.owner))}
    process.wait_until(lambda: not any(map(identity.is_alive, owners)), timeout_s=timeout_s, interval_s=LOOK_S)
    codes += [_tell_end(sweep) for sweep in sweeps]
    return max([*codes, *(_settle(sweep.folder) for sweep in sweeps)])


def _owners(sweep: Sweep) -> tuple[Identity, ...]:
    """Whom to tell: the sweep's process, which tells its trials; theirs where it is gone."""
    if sweep.owner:
        return (sweep.owner,)
    return tuple(trial.owner for trial in sweep.trials if at_work.is_here(trial.owner))


def _tell_end(sweep: Sweep) -> int:
    """What became of a sweep and its trials."""
    for trial in sweep.trials:
        print(f"  trial {trial.run_dir.name}: {_ended(trial.run_dir)}")
    alive = [one.pid for one in _owners(sweep) if identity.is_alive(one)]
    if alive:
        print(f"STILL RUNS: {sweep.folder}: process {', '.join(map(str, alive))}")
        return REMAINS
    more = "; the same command goes on with it" if sweep.is_search else ""
    print(f"{sweep.folder}: stopped{more}")
    return OK


def _ended(run_dir: Path) -> str:
    """How a trial has ended, by its record."""
    done = _record(run_dir)
    if done is None:
        return "no record"
    seen = done.teardown
    if seen is None:
        return f"{done.status}; nothing was deployed"
    if not seen.is_clean:
        return f"{done.status}; NOT REMOVED: {'; '.join(seen.remaining) or seen.error}"
    return f"{done.status}; its server is removed, and was seen to be gone"


def _record(run_dir: Path) -> Record | None:
    try:
        return load(Record, RunDir(run_dir).record)
    except (OSError, ValidationError):
        return None


def _leases(folder: Path) -> list[lease.Lease]:
    """Of the trials in a folder, or of the trial whose folder it is."""
    return [one for one in lease.all_registered() if one.run_dir.is_relative_to(folder)]


def _settle(folder: Path) -> int:
    """Wait for the keepers of processes that have ended without their teardown, and do it where those do not."""

    def orphans() -> list[str]:
        return [one.label for one in _leases(folder) if not identity.is_alive(one.owner)]

    process.wait_until(lambda: not orphans(), timeout_s=KEEPER_S, interval_s=LOOK_S)
    codes = [_remove(orphans())]
    return max([*codes, _named_remains([one.label for one in _leases(folder) if identity.is_alive(one.owner)])])


def _remove(labels: Iterable[str]) -> int:
    """Tear down what has no owner any more."""
    codes = [OK]
    for owned in [one for one in lease.all_registered() if one.label in {*labels}]:
        outcome = teardown.run(owned, by="reaper")
        left = "; ".join([*outcome.remaining, *([outcome.error] if outcome.error else [])])
        print(f"{owned.run_dir}: {f'NOT REMOVED: {left}' if left else 'what a killed trial had left is removed'}")
        codes.append(OK if outcome.is_clean else REMAINS)
    return max(codes)


def _named_remains(labels: Sequence[str]) -> int:
    """Name the leases that are still there; 3 if there are any."""
    for label in labels:
        print(f"NOT REMOVED: {label} ({lease.registered(label)}); when its process is gone: servetune reap")
    return REMAINS if labels else OK


def _signal(who: Identity, number: signal.Signals) -> str | None:
    """Send it to that very process; why that was not possible. Nothing where it has ended: that was the aim."""
    handle = None
    try:
        handle = _handle(who.pid)
        if not identity.is_alive(who):
            return None
        if handle is None:
            os.kill(who.pid, number)
        else:  # while we hold it, the number cannot be given to another process
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return None
    except PermissionError:
        return f"process {who.pid} belongs to another user"
    finally:
        if handle is not None:
            os.close(handle)
    return None


def _handle(pid: int) -> int | None:
    """The process itself, whatever its number is given to later; None on a kernel that has no such thing.

    Raises:
        OSError: there is no such process, or it cannot be had.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EINVAL}:
            return None
        raise


if __name__ == "__main__":
    sys.exit(entry.run(main))
