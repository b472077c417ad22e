"""Hydra's sweeper `tuner`. It reads a trial's result from its record, which is there whatever a launcher returns."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
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

from pipeline.config import command_line, expand, origins, own_traffic, sweepers
from pipeline.config.sides import Knobs
from pipeline.core import disk, files, objectives, readable
from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir
from pipeline.core.limits import settings_of
from pipeline.core.record import Phase, Record
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import Traffic
from pipeline.core.sides import RUNTIME
from pipeline.core.values import to_json
from pipeline.machine import signals
from pipeline.prompts import own
from pipeline.sweep import adoption, learning, resume, session
from pipeline.sweep.launchers.streaming import Job as Launched
from pipeline.sweep.search import damage, space, storages
from pipeline.sweep.search.beats import beating
from pipeline.sweep.search.outcome import Outcome
from pipeline.sweep.search.policy import Next
from pipeline.sweep.search.search import Search
from pipeline.sweep.search.space import Params
from pipeline.sweep.search.study import RECORD, Job, Study, opened
from pipeline.sweep.tuner import dimensions, samplers, streams
from pipeline.sweep.tuner.barred import Barred
from pipeline.sweep.tuner.engines import Engines
from pipeline.trial import hardware, incumbent, preflight, run, twin
from pipeline.trial.story import Place

WAIT_S = 1.0  # between two looks at a sweep that another process is at


class Tuner(Sweeper):
    """Runs the baseline first, then what the sampler proposes, as soon as a slot is free; resumes where it stopped."""

    engines = Engines()  # Hydra makes the sweeper, and knows nothing of them

    def __init__(self, sampler: DictConfig, params: DictConfig | None, **settings: Any) -> None:
        self.sampler = sampler
        self.params: Mapping[Any, Any] = params or {}
        self.settings = settings_of(settings)
        self._has_waited = False
        self.barred = Barred()
        self.traffic: Traffic | None = None  # tied to a file of prompts, where all trials send the same

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
        self.fixed = [each.input_line or "" for each in given.values() if not each.is_sweep_override()]
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with (
            damage.worded(self.folder, self.settings.storage),
            self._search(list(given.values())) as self.search,
            resume.marked(self.folder, self.search.study.optuna.study_name),
        ):
            session.expect(self.folder.path)  # not before: another search's folder gets no table of ours
            self.engines.write_into(self.tree)
            OmegaConf.save(self.tree, self.folder.path / "multirun.yaml")
            self._races = self.settings.racing and not self.search.in_order
            if not self._races:  # an earlier command may have
                incumbent.forget(self.folder)
            self._measure()
            while self._waits():  # if the other process dies, its trials are ours
                self._measure()
            if self.search.is_cut:
                sys.stderr.write(f"{self.settings.limits.reached(self.folder.path)}\n")

    def _measure(self) -> None:
        """All that is to be done now."""
        while self._run(self._asked()):  # what ended last may have to be measured again
            continue
        while job := self.search.confirmation(self.barred.of(self.folder)):  # one at a time: with nothing beside it
            self._run(iter(self._prepared(job)))

    def _waits(self) -> bool:
        """Whether another process was at this search; after a while. Its results are here then."""
        is_at_work = self.search.is_at_work()
        if is_at_work and not self._has_waited:
            sys.stderr.write("Waits for another process that is at this sweep. Ctrl-C: end without it.\n")
            self._has_waited = True
        if is_at_work:
            time.sleep(WAIT_S)
            signals.check()
        self._fetch()
        return is_at_work

    def _fetch(self) -> None:
        """Write the records of trials that ran on hosts which share no folder with this one."""
        for number, told in self.search.study.records().items() if self._is_shared else ():
            run_dir = self.folder.trial(number)
            if not run_dir.record.exists():
                run_dir.path.mkdir(exist_ok=True)
                files.write_atomically(run_dir.record, storages.unpacked(told))
                if self._races:
                    self.barred.race(self.folder, readable.read(Record, run_dir.record))

    def _parsed(self, arguments: Sequence[str]) -> dict[str, Override]:
        parser = OverridesParser.create(self.context.config_loader)
        return self.engines.parsed(parser, self.params, arguments, str(self.tree.hydra.runtime.choices[RUNTIME]))

    @contextmanager
    def _search(self, given: Sequence[Override]) -> Iterator[Search]:
        found = dimensions.space_of(sweepers.ordered(given), self.engines.knobs)
        base = self._config(self.engines.trial([sweepers.line_of(each, None) for each in given]))
        self.traffic = own_traffic.tied(base.traffic, given)
        self.fixed += own_traffic.pins(self.traffic)
        directions = [objectives.is_maximised(name) for name in objectives.names(base)]
        url = self.settings.storage or f"sqlite:///{self.folder.study}"
        name = self.settings.study_name or resume.study_in(self.folder) or self.folder.path.name
        self._is_shared = self.settings.storage is not None  # perhaps with hosts that cannot see this folder
        learned = learning.read(self.settings.learn_from, found, base)
        study = opened(
            url,
            name,
            found,
            ["maximize" if more else "minimize" for more in directions],
            f"study-{resume.key(name if storages.is_remote(url) else f'{url} {name}')}",
            fixed=self.fixed,
            learns=learned.agreed,
            is_alone=not (self._is_shared or self.settings.study_name),
        )
        self._insist_known(study)
        study.foresee = space.Slow(self._foreseen)
        slots = streams.slots(self.launcher, self.settings.n_jobs)
        if sampler := samplers.made(self.sampler, done=len(study.seen()), slots=slots, earlier=learned.earlier):
            study.optuna.sampler = sampler
        knobs: Knobs = self.engines.knobs or {dimensions.ALONE: frozenset(base.knobs)}
        baselines = dimensions.baselines_of(found, knobs) if self.settings.baseline else []
        in_order = samplers.is_grid(self.sampler)
        with beating(study):
            yield Search(
                study,
                self.settings.limits,
                baselines,
                is_maximised=directions,
                in_order=in_order,
                left_out=self.engines.left_out,
            )

    def _insist_known(self, study: Study) -> None:
        """A new search in a folder with trials would end each of its own on theirs."""
        try:
            seen = study.seen()
        except ValidationError as error:
            raise ConfigError(
                f"{self.folder.study} was written by another version of servetune: go on with that one, or set another "
                f"hydra.sweep.dir."
            ) from error
        damage.insist_readable(self.folder)
        if self.folder.records and not seen:
            raise ConfigError(
                f"{self.folder.path} holds trials that this search knows nothing of: {self.folder.study.name} was "
                f"removed, emptied, or is another one. {damage.remedy(self.folder.path)}"
            )

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
        self._fetch()
        own.insist_unchanged(self.traffic)
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
        session.before_deploying()
        return [(job.number, [*([job.what.reason.override] if job.what.reason else []), *lines])]

    def _lines(self, job: Job) -> list[str]:
        """The overrides of a trial."""
        what = job.what
        origin = [] if what.repeat_of is None else [f"repeat_of={what.repeat_of}", f"phase={what.phase}"]
        if (rounds := self._rounds(what.phase)) is not None:
            origin.append(f"rounds={rounds}")
        lines = self.engines.trial([*self.fixed, *space.lines(job.params)])
        if what.phase == "held_out":
            lines = own_traffic.under(lines, str(self.settings.limits.held_out))
        return [*lines, *origin]

    def _rounds(self, phase: Phase) -> int | None:
        """How many rounds were asked for; the record tells it to the verdict."""
        limits = self.settings.limits
        of_phase = {"confirm": limits.confirm, "between": limits.confirm, "held_out": limits.held_out_rounds}
        return of_phase.get(phase)

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
            origin=origins.of(self.tree, self.tree.hydra, config, lines),
            repeat_of=job.what.repeat_of,
            phase=job.what.phase,
            reason=job.what.reason,
            rounds=self._rounds(job.what.phase),
        )
        return run.run(config, place, shown)

    def _foreseen(self, params: Params) -> Params | None:
        """A combination with its knobs as the engine would run them; None: it would not start."""
        if params.get(RUNTIME) in self.engines.left_out:
            return None
        config = self._config(self._lines(Job(number=0, what=Next(), params=params)))
        foreseen = preflight.foresee(config)
        if foreseen.reasons("refused"):
            return None
        told = {name: space.spelled(pick) for name, pick in foreseen.knobs.items() if pick is not None}
        return {**params, **self.search.space.named(params, told)}

    def _config(self, lines: Sequence[str]) -> Config:
        """The trial's, composed by Hydra but for the knobs, which takes most of the time."""
        knobs = self.engines.knobs_of(lines, frozenset(self.tree.runtime.knobs))
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
        """Take a trial's result; on a full disk nothing is told, so that the same command runs the trial again.

        Raises:
            DiskFull: there is no space for trials.
        """
        record = adoption.record_of(self.folder.trial(number))
        if (record is None or adoption.is_for_lack_of_space(record)) and disk.is_full(self.folder.path):
            raise disk.full(self.folder.path)
        if record is not None:
            self._tell(record)
        else:  # its folder could not be written, or Hydra failed before it began
            told = {"failure": adoption.unrecorded(number, result), "hydra": str(result.status.name)}
            self.search.tell(number, Outcome(values=(), attributes=told))

    def _tell(self, record: Record) -> None:
        told = self.barred.told(self.folder, record)
        if self._is_shared:
            told = replace(told, attributes={**told.attributes, RECORD: storages.packed(to_json(record))})
        self.search.tell(record.number, told)
        if self._races:
            self.barred.race(self.folder, record)
