"""The trials of one process: a Config each, one display, one resident genai-bench, and the table at the end."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline import bench, trackers
from pipeline.config import origins
from pipeline.config.command_line import to_config
from pipeline.config.outline import Outline
from pipeline.config.sweepers import runs_elsewhere
from pipeline.core import objectives
from pipeline.core.errors import Interrupted, PipelineError, WorkerDied
from pipeline.core.files import RunDir
from pipeline.core.reasons import Reason
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.core.values import parse, plain
from pipeline.machine import owner, progress, signals
from pipeline.machine.progress import Display, Progress
from pipeline.trial import hardware, kept, postmortem, run
from pipeline.trial.story import Place

Value = float | tuple[float, ...] | None


class TrialFailed(PipelineError):
    """The record of a trial says that it failed. This exception tells Hydra and the sweeper; people read the record."""


@dataclass
class Session:
    """What outlives a trial in this process."""

    outline: Outline | None = None
    progress: Progress | None = None
    display: Display | None = None
    folders: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)
    closing: list[Callable[[], object]] = field(default_factory=list)
    first: list[Callable[[], None]] = field(default_factory=list)
    is_for_all: Callable[[Record], bool] = lambda _done: False


_session = Session()


def begin(outline: Outline) -> None:
    """Expect these trials in this process."""
    _session.outline = outline
    if outline.uses_optuna:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the progress table owns the terminal


def expect(folder: Path) -> None:
    """There will be trials in this folder, wherever they run: it gets a table at the end."""
    if all(folder.resolve() != one.resolve() for one in _session.folders):
        _session.folders.append(folder)


def run_in(folder: Path) -> Path | None:
    """The last run of this process in a folder."""
    return next((run for run in reversed(_session.runs) if run.parent == folder), None)


def report_to(progress: Progress) -> None:
    """Tell this one of the trials of this process, instead of a person."""
    _session.progress = progress


def has_told_failures() -> bool:
    """Whether the display has said already why trials failed."""
    return _session.display is not None and _session.display.tells_failures


def display() -> Display:
    """What people look at, made on first use."""
    outline = _session.outline
    shown = _session.display or progress.make(outline.total if outline else None)
    _session.progress = _session.display = shown
    return shown


def at_first(check: Callable[[], None]) -> None:
    """Check this before the first trial that is deployed."""
    _session.first.append(check)


def before_deploying() -> None:
    """The checks of `at_first`, once.

    Raises:
        CannotRun: no trial can run.
    """
    while _session.first:
        _session.first.pop()()


def end_if(is_for_all: Callable[[Record], bool]) -> None:
    """End the sweep when a trial on another machine has failed of what ails them all."""
    _session.is_for_all = is_for_all


def is_for_all(done: Record) -> bool:
    """Whether what ailed this trial ails every trial of the command."""
    return _session.is_for_all(done)


def gpu_count(config: DictConfig) -> int:
    """GPUs of the hardware that was found for this process's command; of the tree where nobody has looked."""
    found = _session.outline.hardware if _session.outline else None
    return int(found.gpu_count if found else config.hardware.gpu_count)


def at_end(close: Callable[[], object]) -> None:
    """Call this before the table."""
    _session.closing.append(close)


def trial(tree: DictConfig) -> Value:
    """Run the trial of a composed tree inside a Hydra job; the objective's value, or values in their order.

    None for a trial that failed, where nobody needs to be told but the record's readers.

    Raises:
        TrialFailed: the trial failed, and a sweeper that searches has to know.
        ConfigError: the tree cannot be used.
        PipelineError: hardware=auto, and nobody can tell what is there.
        Interrupted: a signal stopped it.
    """
    config = hardware.resolved(to_config(tree))
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    _write(config, tree, folder / str(hydra.output_subdir))
    place = place_of(tree, hydra, folder, config)
    expect(place.run_dir.path.parent)
    _session.runs.append(place.run_dir.path)
    shown = _session.progress or display()
    shown.begin(place.number, telling(place.overrides))
    with signals.interruptible():
        owner.obey()
        done = run.run(config, place, shown)
    return _value_of(done, config, is_searching=_is_searching(hydra))


def _write(config: Config, tree: DictConfig, folder: Path) -> None:
    """Hydra has written its tree before anybody had looked at the hardware: write it again as it is meant."""
    if not (folder / "config.yaml").is_file():
        return
    meant = {"hardware": plain(config.hardware), "runtime": {**tree.runtime, **_by_the_hardware(config)}}
    with suppress(OSError):  # what ails the folder, the trial's record tells
        OmegaConf.save({**tree, **meant}, folder / "config.yaml")


def _by_the_hardware(config: Config) -> dict[str, object]:
    return {"env": dict(config.runtime.env), "image": config.runtime.image, "image_gib": config.runtime.image_gib}


def _value_of(done: Record, config: Config, *, is_searching: bool) -> Value:
    if done.objective is None or done.status != "ok":
        if not is_searching:
            return None
        raise TrialFailed(done.failure.message.splitlines()[0] if done.failure else done.status)
    scores = tuple(done.objective[name] for name in objectives.names(config))
    return scores[0] if len(scores) == 1 else scores


def tree_of(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """The composed tree of one trial of a sweep, Hydra's part in it."""
    tree: DictConfig = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(tree):
        tree.hydra.job.id, tree.hydra.job.num = str(number), number
    return tree


def config_of(tree: DictConfig) -> Config:
    """The configuration in the composed tree of a trial, for the hardware of this machine if it runs here.

    Raises:
        ConfigError: the tree cannot be used.
    """
    task = tree.copy()
    with open_dict(task):
        del task["hydra"]
    config = to_config(task)
    return config if runs_elsewhere(tree.hydra.launcher) else hardware.resolved(config)


def folder_of(tree: DictConfig) -> Path:
    """Where a trial of a sweep writes."""
    return Path(tree.hydra.sweep.dir).absolute() / str(tree.hydra.sweep.subdir)


def bury(
    tree: DictConfig, error: WorkerDied | Interrupted, *, at: str = "run", started_at: datetime
) -> tuple[Record, JobReturn]:
    """The record of a trial whose process has ended before it could tell anybody, and what Hydra is told of it.

    Raises:
        ConfigError: the tree cannot be used.
    """
    config = config_of(tree)
    place = place_of(tree, tree.hydra, folder_of(tree), config)
    done = postmortem.write(place, config, error, at=at, started_at=started_at)
    told = JobReturn(overrides=list(tree.hydra.overrides.task), status=JobStatus.COMPLETED)
    try:
        told.return_value = _value_of(done, config, is_searching=_is_searching(tree.hydra))
    except TrialFailed as failed:
        told.status, told.return_value = JobStatus.FAILED, failed
    return done, told


def _is_searching(hydra: HydraConf) -> bool:
    """Whether a sweeper wants a value from each trial; `tuner` reads records."""
    target = str(hydra.sweeper.get("_target_"))
    return hydra.mode == RunMode.MULTIRUN and not any(
        name in target for name in ("BasicSweeper", "pipeline.sweep.tuner")
    )


def telling(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides that tell this trial from the others of its sweep; all of them for a single one."""
    swept = _session.outline.swept if _session.outline else ()
    return tuple(word for word in own(overrides) if not swept or word.split("=", 1)[0] in swept)


def own(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides of a trial's configuration: not why the search proposed it."""
    return tuple(word for word in overrides if not word.startswith("reason="))


def place_of(tree: DictConfig, hydra: HydraConf, folder: Path, config: Config) -> Place:
    """Where the trial of a composed tree and Hydra's part of it writes."""
    overrides = own(OmegaConf.to_container(hydra.overrides.task, resolve=False))  # type: ignore[arg-type]
    number = None if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    swept = _session.outline.swept if _session.outline else None
    return Place(
        sweep_id=folder.parent.name,
        number=number or 0,  # a single run has no number
        overrides=overrides,
        run_dir=RunDir(folder),
        origin=origins.of(tree, hydra, config, overrides),
        repeat_of=tree.repeat_of,
        phase=tree.phase,
        reason=parse(Reason, OmegaConf.to_container(tree.reason)) if tree.reason else None,
        rounds=tree.rounds,
        may_change_answers=swept is None or config.answers_may_change(swept),
        is_reference=swept is not None and config.is_reference(swept),
        reuses=bool(_session.outline and _session.outline.reuses),
        cache=cache_of(tree, folder.parent),
    )


def cache_of(tree: DictConfig, folder: Path) -> Path | None:
    """Where records that may answer are looked for, if they are: by default beside the sweep's folder."""
    return Path(tree.cache_dir or folder.parent).absolute() if tree.cache else None


def end() -> list[Path]:
    """Close launchers, display, runners and trackers; the folders of the sweeps that this process has worked on."""
    while _session.closing:
        _session.closing.pop()()
    kept.close()
    if _session.progress:
        _session.progress.close()
    bench.close()
    trackers.close()
    return _session.folders
