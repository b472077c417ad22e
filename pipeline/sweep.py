"""The trials of one process: one Config each, one progress, one resident genai-bench; and the table at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline import bench, metrics, progress, run, trackers
from pipeline.command_line import Outline, to_config
from pipeline.errors import PipelineError
from pipeline.files import RunDir
from pipeline.progress import Progress
from pipeline.story import Place


class TrialFailed(PipelineError):
    """A trial left a record that says it failed. Tells Hydra and the sweeper; people read the record."""


@dataclass
class Session:
    """What outlives a trial in this process."""

    outline: Outline | None = None
    progress: Progress | None = None
    folders: list[Path] = field(default_factory=list)


_session = Session()


def begin(outline: Outline) -> None:
    """Expect these trials in this process."""
    _session.outline = outline
    if outline.uses_optuna:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the progress table owns the terminal


def trial(tree: DictConfig) -> float | tuple[float, ...] | None:
    """Run the trial of a composed tree inside a Hydra job; the objective's value, or values in their order.

    None for a trial that failed, where nobody needs to be told but the record's readers.

    Raises:
        TrialFailed: the trial failed, and a sweeper that searches has to know.
        ConfigError: the tree cannot be used.
        Interrupted: a signal stopped it.
    """
    config = to_config(tree)
    outline = _session.outline
    shown = _session.progress = _session.progress or progress.make(outline.total if outline else None)
    place = _place()
    if place.run_dir.path.parent not in _session.folders:
        _session.folders.append(place.run_dir.path.parent)
    shown.begin(place.number, _telling(place.overrides))
    done = run.run(config, place, shown)
    if done.objective is None or done.status != "ok":
        if not _is_searching():
            return None
        raise TrialFailed(done.failure.message.splitlines()[0] if done.failure else done.status)
    scores = tuple(done.objective[name] for name in metrics.objective_names(config))
    return scores[0] if len(scores) == 1 else scores


def _is_searching() -> bool:
    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and "BasicSweeper" not in str(hydra.sweeper.get("_target_"))


def _telling(overrides: Sequence[str]) -> list[str]:
    """The overrides that tell this trial from the others of its sweep; all of them for a single one."""
    swept = _session.outline.swept if _session.outline else ()
    return [word for word in overrides if not swept or word.split("=", 1)[0] in swept]


def _place() -> Place:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    number = None if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    return Place(
        sweep_id=folder.parent.name,
        number=number or 0,  # a single run has no number
        overrides=tuple(hydra.overrides.task),
        run_dir=RunDir(folder),
    )


def end() -> list[Path]:
    """Close the display, the runners and the trackers; the folders of the sweeps that this process has worked on."""
    if _session.progress:
        _session.progress.close()
    bench.close()
    trackers.close()
    return _session.folders
