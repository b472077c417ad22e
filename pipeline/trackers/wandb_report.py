"""The W&B Report of a sweep: built and saved by wandb-workspaces, which is imported here alone.

Saving takes a key and the server. Without them a script is written into the sweep's folder, which saves the report when
its runs have been uploaded.
"""

import sys
from pathlib import Path
from typing import Any

from pipeline.core import schema
from pipeline.core.files import SweepDir, write_atomically
from pipeline.core.redact import Secrets
from pipeline.core.values import from_json, parse, plain, to_json, value
from pipeline.trackers.result import SweepResult, TrialResult

MAX_TITLE = 128  # W&B's limit
TOP = 10  # trials in the report's own table; W&B's has all
SCRIPT = '''\
"""Saves the W&B Report of this sweep, with the key of `wandb login` or WANDB_API_KEY. Run it after `make sync`."""

import sys

from pipeline.trackers import wandb_report

SOURCE = r"""
{source}
"""

sys.exit(wandb_report.main(SOURCE, __file__))
'''


@value
class Source:
    """What the report is made of."""

    title: str
    text: str  # Markdown
    project: str | None
    entity: str | None  # None, here and above: as wandb's settings say, else the key's default
    sweep_key: str  # in the configuration of the sweep's runs
    objectives: tuple[str, ...]
    knobs: tuple[str, ...]


def source(result: SweepResult, config: schema.Tracker, key: str, secrets: Secrets) -> Source:
    """The report of a sweep, without secrets."""
    found = Source(
        title=f"servetune {result.sweep_id}"[:MAX_TITLE],
        text=_text(result),
        project=config.project,
        entity=config.entity,
        sweep_key=key,
        objectives=result.objectives,
        knobs=result.knobs,
    )
    return parse(Source, secrets.hide(plain(found)))


def build(source: Source, *, entity: str, project: str) -> Any:
    """The Report, not yet saved. Asks nobody."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2

    wr: Any = v2  # its names are not marked as exported

    def runs(job_type: str) -> Any:
        mine = [expr.Config("sweep_key") == source.sweep_key, expr.Metric("JobType") == job_type]
        return wr.Runset(name=f"{job_type}s", filters=mine)

    def panel(kind: Any, top: int, *, height: int = 9, **settings: Any) -> Any:
        return kind(layout=wr.Layout(x=0, y=top, w=24, h=height), **settings)

    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(knob)) for knob in source.knobs]
    columns += [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(name)) for name in source.objectives]
    ttft, speed = (wr.SummaryMetric(f"best/{name}") for name in ("ttft_p95_s", "output_tokens_per_s"))
    trials = [
        panel(wr.BarPlot, 0, title="Objective", metrics=[wr.SummaryMetric(name) for name in source.objectives]),
        panel(wr.ScatterPlot, 9, title="Throughput over TTFT p95, each trial at its best level", x=ttft, y=speed),
        panel(wr.ParallelCoordinatesPlot, 18, title="Knobs and objective", columns=columns),
        panel(wr.RunComparer, 27, height=12),
    ]
    return wr.Report(
        project=project,
        entity=entity,
        title=source.title,
        description="Made by servetune at the end of the sweep.",
        width="fluid",
        blocks=[
            wr.MarkdownBlock(text=source.text),
            wr.H2(text="All trials"),
            wr.PanelGrid(runsets=[runs("sweep")], panels=[panel(wr.WeavePanelSummaryTable, 0, table_name="trials")]),
            wr.H2(text="Compared"),
            wr.PanelGrid(runsets=[runs("trial")], panels=trials),
        ],
    )


def save(source: Source, sweep: SweepDir) -> str:
    """Save the report, the same one again if the sweep has had one; its URL.

    Raises:
        Exception: wandb's, of several kinds: no key, no way to the server, refused.
    """
    import wandb

    api = wandb.Api()
    entity = source.entity or api.settings["entity"] or api.default_entity  # as wandb.init chooses
    report = build(source, entity=str(entity), project=source.project or api.settings["project"] or "uncategorized")
    before = _saved_before(sweep)
    if before:
        report.id = before
    try:
        report.save()
    except Exception:
        if not before:
            raise
        report.id = ""  # somebody has deleted it
        report.save()
    write_atomically(sweep.tracker_report, report.id)
    return str(report.url)


def write_script(source: Source, sweep: SweepDir) -> Path:
    """Write the program that saves the report; its path."""
    write_atomically(sweep.tracker_script, SCRIPT.format(source=to_json(source)))
    return sweep.tracker_script


def main(text: str, script: str) -> int:
    """What the script does: save, print the URL. 1: it was not saved, and why."""
    try:
        print(save(from_json(Source, text), SweepDir(Path(script).resolve().parent)))
    except Exception as error:  # noqa: BLE001 - whatever ails W&B, one line says it
        sys.stderr.write(f"error: W&B did not accept the report: {type(error).__name__}: {error}\n")
        sys.stderr.write(
            "hint: run `wandb login`, then `make sync`, then this script: the report shows uploaded runs.\n"
        )
        return 1
    return 0


def _saved_before(sweep: SweepDir) -> str | None:
    return sweep.tracker_report.read_text("utf-8").strip() if sweep.tracker_report.exists() else None


def _text(result: SweepResult) -> str:
    lines = [f"# Sweep {result.sweep_id}", "", _headline(result), "", *_table(result)]
    choices = ", ".join(f"{group} `{name}`" for group, name in result.choices.items())
    return "\n".join([*lines, "", f"Measured with {choices}."])


def _headline(result: SweepResult) -> str:
    said = "\n\n".join(result.said)
    best = result.best
    if best is None:
        return said or f"None of {len(result.trials)} trials has a result."
    scores = ", ".join(f"{name} {seen:.4g}" for name, seen in best.objectives.items())
    first = f"**Best: trial {best.number}**, `{best.overrides or 'defaults'}` (in the search: {scores})."
    return f"{first}\n\n{said}\n\n```\n{best.command}\n{best.server_command}\n```"


def _table(result: SweepResult) -> list[str]:
    titles = ["rank", "trial", "overrides", *result.objectives, "vs baseline", "TTFT p95", "TPOT p95"]
    lines = [_cells(trial, result) for trial in result.trials[:TOP]]
    return ["| " + " | ".join(cells) + " |" for cells in (titles, ["---"] * len(titles), *lines)]


def _cells(trial: TrialResult, result: SweepResult) -> list[str]:
    scores = [f"{trial.objectives[name]:.4g}" if name in trial.objectives else "" for name in result.objectives]
    times = ["" if seen is None else f"{seen * 1000:.0f} ms" for seen in (trial.ttft_p95_s, trial.tpot_p95_s)]
    what = trial.overrides or "defaults"
    rank = str(trial.rank or trial.failure_kind or trial.status)
    return [cell.replace("|", "\\|") for cell in (rank, str(trial.number), f"`{what}`", *scores, trial.change, *times)]
