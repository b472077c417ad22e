"""The trials of one process: one Config each, one progress, one resident genai-bench; and the table at the end."""

from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pipeline import bench, metrics, progress, run
from pipeline.command_line import to_config
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from pipeline.record import Record, RunDir


class TrialFailed(PipelineError):
    """A trial left a record that says it failed. Tells Hydra and the sweeper; people read the record."""


@dataclass
class Session:
    """What outlives a trial in this process."""

    total: int | None = None
    progress: Progress | None = None
    folders: list[Path] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


_session = Session()


def begin(total: int | None) -> None:
    """Expect `total` trials in this process."""
    _session.total = total


def trial(tree: DictConfig) -> float | tuple[float, ...]:
    """Run the trial of a composed tree inside a Hydra job; the objective's value, or values in their order.

    Raises:
        TrialFailed: the trial failed; its record says why.
        ConfigError: the tree cannot be used.
        Interrupted: a signal stopped it.
    """
    config = to_config(tree)
    shown = _session.progress = _session.progress or progress.make(_session.total)
    place = _place()
    if place.run_dir.path.parent not in _session.folders:
        _session.folders.append(place.run_dir.path.parent)
    shown.begin(place.number, place.overrides)
    done = run.run(config, place, shown)
    _session.records.append(done)
    if done.objective is None or done.status != "ok":
        raise TrialFailed(done.failure.message if done.failure else done.status)
    scores = tuple(done.objective[name] for name in metrics.objective_names(config))
    return scores[0] if len(scores) == 1 else scores


def _place() -> run.Place:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    number = None if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    return run.Place(
        sweep_id=folder.parent.name,
        number=number or 0,  # a single run has no number
        overrides=tuple(hydra.overrides.task),
        run_dir=RunDir(folder),
    )


def end() -> Session:
    """Close the display and the runners; what this process has run."""
    if _session.progress:
        _session.progress.close()
    bench.close()
    return _session
