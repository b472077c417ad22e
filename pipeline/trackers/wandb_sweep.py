"""The content of a sweep's W&B run. The wandb module is passed in: only one module imports it."""

from collections import Counter
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core import objectives
from pipeline.core.evaluation import Change
from pipeline.core.files import SweepDir
from pipeline.core.redact import Secrets
from pipeline.trackers.result import SweepResult, TrialResult
from pipeline.trackers.wandb_content import Content

STATUSES = ("ok", "failed", "refused", "interrupted")
COLUMNS = (
    "flags",
    "best_level",
    "output_tokens_per_s",
    "ttft_p95_s",
    "tpot_p95_s",
    "error_rate",
    "failure_kind",
    "repeat_of",
    "phase",
    "same_as",
    "quality",
)


def content(result: SweepResult, sweep: SweepDir, key: str) -> Content:
    """The run of the sweep with that key, which is the run's id."""
    return Content(
        run_id=key,
        job_type="sweep",
        group=result.sweep_id,
        name=f"sweep {result.sweep_id}",
        tags=("sweep", *_tags(result)),
        config={"sweep_key": key, "objectives": result.objectives, "knobs": result.knobs, **result.choices},
        artifact=f"sweep-{key}",
        files=files(sweep),
        fill=partial(_fill, result),
        exit_code=result.exit_code,
    )


def files(sweep: SweepDir) -> tuple[tuple[Path, str], ...]:
    """The files that are published, and their names."""
    found = [sweep.ranking, sweep.best, sweep.report, sweep.summary_csv, *sorted(sweep.best_dir.rglob("*"))]
    return tuple((path, str(path.relative_to(sweep.path))) for path in found if path.is_file())


def _tags(result: SweepResult) -> list[str]:
    """Engines and models, each a tag of its own."""
    chosen = (result.choices[group] for group in ("runtime", "model") if group in result.choices)
    return [name for names in chosen for name in names.split(",")]


def _fill(result: SweepResult, wandb: ModuleType, run: Any, secrets: Secrets) -> None:
    table = wandb.Table(columns=_columns(result), data=secrets.hide(rows(result)))
    run.log({"trials": table, **_plots(result, wandb, secrets)})
    run.summary.update(secrets.hide(summary(result)))


def _columns(result: SweepResult) -> list[str]:
    repeats = ("mean", "low", "high", "measurements")
    return ["rank", "trial", "overrides", "status", *result.objectives, *repeats, "vs_baseline", *COLUMNS]


def rows(result: SweepResult) -> list[list[Any]]:
    """The table of all trials, best first."""
    return [_row(trial, result.objectives) for trial in result.trials]


def _row(trial: TrialResult, objectives: tuple[str, ...]) -> list[Any]:
    seen = trial.repeated
    return [
        trial.rank,
        trial.number,
        trial.overrides,
        trial.status,
        *(trial.objectives.get(name) for name in objectives),
        *((seen.mean, seen.low, seen.high, seen.count) if seen else (None, None, None, 1)),
        trial.against_baseline,
        *(getattr(trial, name) for name in COLUMNS),
    ]


def summary(result: SweepResult) -> dict[str, Any]:
    """How it went in numbers, and the best configuration; in full, because it takes the place of an earlier one."""
    statuses = Counter(trial.status for trial in result.trials)
    told: dict[str, Any] = {
        "trials_total": len(result.trials),
        **{f"trials_{status}": statuses[status] for status in STATUSES},
    }
    told["verdict"] = " ".join(result.verdict)
    if result.best is None:
        return told
    best = result.best
    return told | {
        "best/trial": best.number,
        "best/overrides": best.overrides or "defaults",
        "best/command": best.command,
        "best/server_command": best.server_command,
        "best/level": best.best_level,
        "best/vs_baseline": best.against_baseline,
        "best/vs_baseline_low": best.against_baseline_low,
        "best/vs_baseline_high": best.against_baseline_high,
        "best/rounds": best.rounds,
        "best/verdict": best.verdict,
        "best/quality": best.quality,
        **{f"best/{name}": seen for name, seen in best.objectives.items()},
        **{f"best/knobs/{name}": best.knobs.get(name) for name in {*result.knobs, *best.knobs}},
        **{key: seen for one in result.evaluations for key, seen in _evaluated(one).items()},
    }


def _evaluated(one: Change) -> dict[str, Any]:
    """A score of the best configuration against the baseline's."""
    half = one.half_width
    ends = {} if half is None else {"low": one.difference - half, "high": one.difference + half}
    told = {"score": one.winner, "baseline": one.baseline, "difference": one.difference, **ends, "verdict": one.verdict}
    return {f"best/evals/{one.name}/{key}": seen for key, seen in told.items()}


def _plots(result: SweepResult, wandb: ModuleType, secrets: Secrets) -> dict[str, Any]:
    """W&B's own charts, those that there is anything for."""
    found = {}
    speeds = [
        [trial.ttft_p95_s, trial.output_tokens_per_s, trial.number, secrets.hide(trial.overrides)]
        for trial in _comparable(result)
        if trial.ttft_p95_s is not None and trial.output_tokens_per_s is not None
    ]
    if speeds:
        table = wandb.Table(columns=["ttft_p95_s", "output_tokens_per_s", "trial", "overrides"], data=speeds)
        title = "Throughput over TTFT, each trial at its best level"
        found["throughput_over_ttft"] = wandb.plot.scatter(table, "ttft_p95_s", "output_tokens_per_s", title=title)
    if series := over_trials(result):
        numbers, scores, best = series
        name = result.objectives[0]
        found["objective_over_trials"] = wandb.plot.line_series(
            xs=numbers, ys=[scores, best], keys=[name, "best so far"], title=f"{name} over trials", xname="trial"
        )
    failed = [trial for trial in result.trials if trial.status != "interrupted"]  # those are run again
    if failures := Counter(trial.failure_kind for trial in failed if trial.failure_kind):
        table = wandb.Table(columns=["kind", "trials"], data=[[kind, seen] for kind, seen in failures.most_common()])
        found["failures_by_kind"] = wandb.plot.bar(table, "kind", "trials", title="Failures by kind")
    return found


def over_trials(result: SweepResult) -> tuple[list[int], list[float], list[float]] | None:
    """(numbers, first objective, best of it so far) of those that may win, in their order; None without a result."""
    if not result.objectives:
        return None
    name = result.objectives[0]
    fair = [one for one in _comparable(result) if not one.is_barred]
    measured = sorted((one.number, one.objectives[name]) for one in fair if name in one.objectives)
    if not measured:
        return None
    numbers, scores = zip(*measured, strict=True)
    return [*numbers], [*scores], [*accumulate(scores, max if objectives.is_maximised(name) else min)]


def _comparable(result: SweepResult) -> list[TrialResult]:
    """Trials under the traffic of the sweep."""
    return [trial for trial in result.trials if trial.phase != "held_out"]
