"""`servetune ps`: what runs on this machine, where, since when, on which GPUs. Starts and changes nothing."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime

from pipeline.backends import lease
from pipeline.core.values import now, to_json
from pipeline.machine import entry, progress
from pipeline.trial import at_work, overview
from pipeline.trial.overview import Sweep, Trial, View

ABOUT = """Lists the sweeps and trials that run on this machine, of all your terminals and scripts: folder, overrides,
step and level, process, since when, GPUs and backend. It knows those that share this state directory:
{state}

--json prints one object: `sweeps`, each with `folder`, `owner` (its process), `since`, `ended` (trials with a record)
and `trials`; and `left_behind`, which `servetune reap` would remove. A trial whose `number` is null is known by its
lease alone. Times are UTC."""


def lines(view: View) -> Iterator[str]:
    """As a person reads it."""
    for one in view.sweeps:
        yield from _told(one)
    for left in view.left_behind:
        yield f"{left.run_dir}: its process is gone, and its server may run ({left.backend}): servetune reap"
    if not view.sweeps and not view.left_behind:
        yield "Nothing runs."


def _told(sweep: Sweep) -> Iterator[str]:
    kind = "sweep" if sweep.is_sweep else "trial"
    who = f"process {sweep.owner.pid}" if sweep.owner else "its process is gone"
    done = [f"{sweep.ended} ended"] if sweep.is_sweep else []
    yield f"{sweep.folder}: {', '.join([f'{kind}, {who}, {_since(sweep.since)}', *done])}"
    for one in sweep.trials:
        name = one.run_dir.name if one.number is None else str(one.number)
        phase = "" if one.phase == "search" else f" ({one.phase})"
        yield f"  trial {name}{phase}: {progress.words(_telling(one, sweep))}"
        yield f"    {f'{one.step} {one.detail}'.strip()}, {_since(one.step_since)}"
        yield f"    process {one.owner.pid}, {_since(one.since)}; {_place(one)}"
    if sweep.is_sweep and not sweep.trials:
        yield "  no trial runs at this moment"


def _telling(trial: Trial, sweep: Sweep) -> list[str]:
    """The overrides that tell it from the other trials of its sweep; all of them where nobody knows."""
    return [word for word in trial.overrides if not sweep.swept or word.split("=", 1)[0] in sweep.swept]


def _place(trial: Trial) -> str:
    """`local, GPUs 0,1`."""
    here = [] if at_work.is_here(trial.owner) else [f"on {trial.owner.host}"]
    gpus = [f"GPU{'s' * (len(trial.gpus) > 1)} {','.join(trial.gpus)}"] if trial.gpus else []
    cores = [f"cores {','.join(map(str, trial.cores))}"] if trial.cores else []
    server = [f"server {trial.server_pid}"] if trial.server_pid else []
    return ", ".join([trial.backend, *here, *gpus, *cores, *server])


def _since(moment: datetime) -> str:
    """`since 10:04:12 (3 min)`, with the day where it was another."""
    here, seconds = moment.astimezone(), max(0.0, (now() - moment).total_seconds())
    shown = f"{here:%H:%M:%S}" if here.date() == now().astimezone().date() else f"{here:%Y-%m-%d %H:%M}"
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    took = f"{seconds:.0f} s" if seconds < 60 else f"{minutes:.0f} min" if not hours else f"{hours:.0f} h {minutes:.0f}"
    return f"since {shown} ({took}{' min' if hours else ''})"


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.ps") -> int:
    """The command. 0, whatever runs."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List what runs on this machine.",
        epilog=ABOUT.format(state=lease.state_dir()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    options = parser.parse_args(argv)
    view = overview.look()
    sys.stdout.write(to_json(view) + "\n" if options.json else "".join(f"{line}\n" for line in lines(view)))
    return 0


if __name__ == "__main__":
    sys.exit(entry.run(main))
