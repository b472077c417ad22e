"""Hydra's sweeper `tuner`. It reads a trial's result from its record, which is there whatever a launcher returns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import ValidationError

from pipeline.config import command_line, expand, sweepers
from pipeline.core import objectives
from pipeline.core.files import SweepDir
from pipeline.core.limits import settings_of
from pipeline.core.record import Phase, Record
from pipeline.core.schema import Config
from pipeline.core.values import load
from pipeline.sweep import adoption, resume, session
from pipeline.sweep.launchers.streaming import Job as Launched
from pipeline.sweep.search import outcome, space
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Params
from pipeline.sweep.search.study import Job, Study, opened
from pipeline.sweep.tuner import dimensions, samplers, streams
from pipeline.trial import hardware, incumbent, preflight, run, twin
from pipeline.trial.story import Place

BEAT_S = 60.0


class Tuner(Sweeper):
    """Runs the baseline first, then what the sampler proposes, as soon as a slot is free; resumes where it stopped."""

    def __init__(self, sampler: DictConfig, params: DictConfig | None, **settings: Any) -> None:
        self.sampler, self.params = sampler, dict(params or {})
        self.settings = settings_of(settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own."""
        self.context, self.tree = hydra_context, config
        self.folder = SweepDir(Path(config.hydra.sweep.dir).absolute())
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search until a limit is reached, then measure contenders against the baseline."""
        given = self._parsed(arguments)
        self.fixed = [each for each in given.values() if not each.is_sweep_override()]
        session.expect(self.folder.path)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.tree, self.folder.path / "multirun.yaml")
        with resume.marked(self.folder), self._search(list(given.values())) as self.search:
            self._races = self.settings.racing and not self.search.in_order
            if not self._races:  # an earlier command may have
                self.folder.incumbent.unlink(missing_ok=True)
            while self._run(self._asked()):  # what ended last may have to be measured again
                continue
            while job := self.search.confirmation():  # one at a time: with nothing beside it
                self._run(iter(self._prepared(job)))

    def _parsed(self, arguments: Sequence[str]) -> dict[str, Override]:
        parser = OverridesParser.create(self.context.config_loader)
        lines = [*(f"{name!s}={swept}" for name, swept in self.params.items()), *arguments]
        return {each.get_key_element(): each for each in parser.parse_overrides(lines)}

    @contextmanager
    def _search(self, given: Sequence[Override]) -> Iterator[Search]:
        found = dimensions.space_of(sweepers.ordered(given))
        base = self._config([sweepers.line_of(each, None) for each in given])
        directions = [objectives.is_maximised(name) for name in objectives.names(base)]
        study = opened(
            self.settings.storage or f"sqlite:///{self.folder.study}",
            self.settings.study_name or self.folder.path.name,
            found,
            ["maximize" if more else "minimize" for more in directions],
            f"study-{resume.key(str(self.folder.path))}",
        )
        study.agree("overrides", sorted(each.input_line or "" for each in given if not each.is_sweep_override()))
        study.foresee = self._foreseen
        slots = streams.slots(self.launcher, self.settings.n_jobs)
        if sampler := samplers.made(self.sampler, done=len(study.seen()), slots=slots):
            study.optuna.sampler = sampler
        baseline = dimensions.baseline_of(found, [*base.knobs]) if self.settings.baseline else None
        in_order = samplers.is_grid(self.sampler)
        with _beating(study):
            yield Search(study, self.settings.limits, baseline, is_maximised=directions, in_order=in_order)

    def _run(self, jobs: Iterator[Launched]) -> bool:
        """Run them; whether there were any."""
        first = next(jobs, None)
        if first is not None:
            streams.stream(self.launcher, self.settings.n_jobs, chain([first], jobs), self._told)
        return first is not None

    def _asked(self) -> Iterator[Launched]:
        """Every trial that has to be deployed, asked for when it can start."""
        while job := self.search.next():
            yield from self._prepared(job)

    def _prepared(self, job: Job) -> list[Launched]:
        """The job for the launcher; nothing where its answer is known."""
        run_dir = self.folder.trial(job.number)
        if job.is_again:
            if found := adoption.finished(run_dir):
                self._tell(found)
                return []
            adoption.put_aside(self.folder, job.number)
        lines = self._lines(job)
        if found := self._answer(job, lines):
            self._tell(found)
            return []
        return [(job.number, [*([job.what.reason.override] if job.what.reason else []), *lines])]

    def _lines(self, job: Job) -> list[str]:
        """The overrides of a trial."""
        what = job.what
        held_out = [f"traffic={self.settings.limits.held_out}"] if what.phase == "held_out" else []
        origin = [] if what.repeat_of is None else [f"repeat_of={what.repeat_of}", f"phase={what.phase}"]
        if (rounds := self._rounds(what.phase)) is not None:
            origin.append(f"rounds={rounds}")
        fixed = [each.input_line or "" for each in self.fixed if not (held_out and each.get_key_element() == "traffic")]
        swept = [line for line in space.lines(job.params) if not (held_out and line.startswith("traffic="))]
        return [*fixed, *swept, *held_out, *origin]

    def _rounds(self, phase: Phase) -> int | None:
        """How many rounds were asked for; the record tells it to the verdict."""
        limits = self.settings.limits
        return {"confirm": limits.confirm, "held_out": limits.held_out_rounds}.get(phase)

    def _answer(self, job: Job, lines: Sequence[str]) -> Record | None:
        """The record of a trial that need not be deployed: refused by the rules, or the same as an earlier one."""
        config = self._config(lines)
        foreseen = preflight.foresee(config)
        is_repeat = job.what.repeat_of is not None
        if not foreseen.reasons("refused") and (is_repeat or not twin.by_rules(self.folder, config, foreseen)):
            return None
        shown = session.display().beside()
        shown.begin(job.number, session.telling(lines))
        place = Place(
            sweep_id=self.folder.path.name,
            number=job.number,
            overrides=tuple(lines),
            run_dir=self.folder.trial(job.number),
            repeat_of=job.what.repeat_of,
            phase=job.what.phase,
            reason=job.what.reason,
            rounds=self._rounds(job.what.phase),
        )
        return run.run(config, place, shown)

    def _foreseen(self, params: Params) -> Params | None:
        """A combination with its knobs as the engine would run them; None: it would not start."""
        config = self._config(self._lines(Job(number=0, what=Next(), params=params)))
        foreseen = preflight.foresee(config)
        if foreseen.reasons("refused"):
            return None
        return {**params, **{name: space.spelled(pick) for name, pick in foreseen.knobs.items() if pick is not None}}

    def _config(self, lines: Sequence[str]) -> Config:
        """The trial's, composed by Hydra but for the knobs, which takes most of the time."""
        knobs = frozenset(self.tree.runtime.knobs)
        own = [line for line in lines if line.split("=", 1)[0] in knobs]
        return expand.with_knobs(self._base(tuple(line for line in lines if line not in own)), own)

    @lru_cache(maxsize=expand.KEPT)  # noqa: B019 - there is one sweeper in a process
    def _base(self, lines: tuple[str, ...]) -> Config:
        tree = self.context.config_loader.load_sweep_config(self.tree, list(lines))
        with open_dict(tree):
            del tree["hydra"]
        config = command_line.to_config(tree)
        return config if sweepers.runs_elsewhere(self.tree.hydra.launcher) else hardware.resolved(config)

    def _told(self, number: int, result: JobReturn) -> None:
        try:
            self._tell(load(Record, self.folder.trial(number).record))
        except (OSError, ValidationError):  # its folder could not be written, or Hydra failed before it began
            told = {"failure": "no record", "hydra": str(result.status.name)}
            self.search.tell(number, Outcome(values=(), attributes=told))

    def _tell(self, record: Record) -> None:
        self.search.tell(record.number, outcome.of(record))
        if self._races:
            incumbent.update(self.folder, record)


@contextmanager
def _beating(study: Study) -> Iterator[None]:
    """Other machines hear of this process while it is in here."""
    done = Event()

    def beat() -> None:
        while not done.wait(BEAT_S):
            study.beat()
        study.close()

    study.beat()
    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        study.close()
