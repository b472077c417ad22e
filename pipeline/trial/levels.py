"""The ladder of levels: rising loads, one run of the load generator each; a failed level does not affect the others."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipeline.backends import Backend, Deployment
from pipeline.bench import Job, Outcome, Runner, Watch, beside, chosen, command, ledger, results
from pipeline.config import planning
from pipeline.config.trial_limit import IDLE_TIMEOUT_S, LONGEST_REPEAT
from pipeline.core import files, metrics, objectives, prefix_hits, racing, record
from pipeline.core.client import own_from
from pipeline.core.errors import BenchFailed, FailureKind, PipelineError
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.racing import Incumbent, Rung
from pipeline.core.record import Failure, Level, LevelMetrics
from pipeline.core.requests import Measurement
from pipeline.core.schema import Config
from pipeline.core.statistics import SDS
from pipeline.engines import diagnose, http
from pipeline.machine import process, signals
from pipeline.machine.progress import Progress
from pipeline.trial import health, quiet, warming
from pipeline.trial.engine_watch import EngineWatch
from pipeline.trial.hardware_watch import HardwareWatch
from pipeline.trial.meter import Meter

DEATH_S = 10.0  # vLLM answers with errors for a second or two after its engine is gone, then ends with exit code 0
SPARE = 1.5  # times the time that a cut level needs at the pace that was seen


@dataclass(frozen=True)
class Ladder:
    """Measures the levels of one deployment."""

    config: Config
    plan: Plan
    deployment: Deployment
    backend: Backend
    runner: Runner
    progress: Progress
    best: Incumbent | None = None  # of the search, where trials race
    death_s: float = DEATH_S
    in_time: Watch = signals.check  # raises when the trial may take no more time
    engine_version: str | None = None  # by its own word

    def climb(self, done: list[Level]) -> None:
        """Measure every level of the plan, or those by which it can be told that another trial is better.

        Each is appended to `done` as it ends, also when this one raises; at the end they are in the plan's order.

        Raises:
            ServerDied, StepTimedOut, Interrupted: the level it happened in is failed, those after it skipped.
        """
        levels, config = self.plan.levels, self.config
        rungs = [Rung(scenario=one.scenario, demand=one.demand, name=one.name) for one in levels]
        race = racing.race(rungs, config, self.best)
        try:
            while (then := race.step([racing.seen(level, config) for level in done])).level is not None:
                self.take(levels[then.level], done)
        except BaseException:
            self.leave_out(done, "the trial ended before this level", FailureKind.NOT_RUN)
            raise
        self.complete(done, set())
        if self.best is not None and then.reason == "raced":
            self.leave_out(done, raced(done, self.config, self.best), FailureKind.RACED)
        names = [one.name for one in rungs]
        done.sort(key=lambda level: names.index(level.name))

    def take(self, level: LevelPlan, done: list[Level]) -> None:
        """Measure it, or say why not. Raises what ends the trial, when the level has been noted as failed."""
        if reason := self.reason_to_skip(level, done):
            done.append(skipped(level, reason, FailureKind.OVERLOADED))
            return
        self.progress.step("bench", detail=level.name)
        try:
            done.append(self.measure(level))
        except BaseException as error:
            done.append(_failed(level, record.failure("bench", error)))
            raise

    def leave_out(self, done: list[Level], reason: str, kind: FailureKind) -> None:
        """Note all levels that have not been measured."""
        had = {level.name for level in done}
        done.extend(skipped(level, reason, kind) for level in self.plan.levels if level.name not in had)

    def complete(self, done: list[Level], again: set[str]) -> None:
        """Measure the level that would decide again if it was cut, with the time that its plan needs; note its name.

        What is cut again cannot win: it is not whole, and is not compared with what is.

        Raises:
            ServerDied, Interrupted: the first measurement stays.
        """
        while cut := _decisive(done, self.config, again):
            again.add(cut.name)
            plan = planning.level(self.config, cut.scenario, cut.demand, of=f"{self.plan.trial_id} again")
            need_s = needed_s(cut)
            if need_s <= LONGEST_REPEAT * plan.max_time_s:
                self.progress.step("bench", detail=f"{cut.name} again: it was cut, and needs {need_s:.0f} s")
                repeated = self.measure(replace(plan, max_time_s=need_s))
                done[done.index(cut)] = replace(repeated, times_measured=cut.times_measured + repeated.times_measured)

    def check(self) -> None:
        """The server still runs, there is time, and nobody has asked us to stop.

        Raises:
            ServerDied, StepTimedOut, Interrupted: else.
        """
        signals.check()
        self.in_time()
        health.check_alive(self.backend, self.deployment, RunDir(self.plan.run_dir).server_log)

    def watch(self, level: LevelPlan, meter: Meter) -> Watch:
        """What is asked while the load generator works: that the server runs, and how far the level is."""

        def look() -> None:
            self.check()
            if said := meter.said():
                self.progress.step("bench", detail=f"{level.name}: {said}")

        return look

    def reason_to_skip(self, level: LevelPlan, done: list[Level]) -> str | None:
        """A level of the same scenario with less load, measured before, that was overloaded by a wide margin."""
        if self.config.traffic.all_levels:
            return None
        for earlier in done:
            over = earlier.metrics is not None and metrics.is_overloaded(earlier.metrics)
            why = earlier.failure if earlier.status == "failed" else None
            refused = why is not None and why.kind == FailureKind.OVERLOADED
            is_less = earlier.scenario == level.scenario and earlier.demand < level.demand
            if (over or refused) and is_less:
                return f"{earlier.name} was overloaded; set traffic.all_levels=true to measure this level anyway"
        return None

    def measure(self, level: LevelPlan) -> Level:
        """Measure it while the machine is quiet, as far as that can be had. Raises as `once` does."""
        return quiet.level(self.config, self.plan, self.deployment, level, lambda: self.once(level))

    def once(self, level: LevelPlan) -> Level:
        """Reset the cache, run genai-bench, read its result.

        Raises:
            ServerDied, Interrupted: from the watch kept on the server.
        """
        files.put_aside(RunDir(self.plan.run_dir).level(level.scenario, level.folder))
        reset = health.wait_idle(self.deployment, self.plan, timeout_s=IDLE_TIMEOUT_S, alive=self.check)
        job = self.job(level)
        try:
            reset = f"{reset}{warming.send(self.config, job, self.runner, self.progress, self.check)}"
        except BenchFailed as error:
            self.await_death()
            return _failed(level, record.failure("bench", error))
        with self.engine.level() as engine, self.hardware.level() as hardware:
            outcome = self.runner.run(job, self.watch(level, Meter(job.folder / ledger.NAME)))
        self.check()
        seen = self.read(level, outcome)
        if seen.metrics is None or seen.metrics.num_errors:
            self.await_death()
        seen = engine.told(hardware.told(seen, job.folder, self.plan.run_dir), job.folder, self.plan.run_dir)
        seen = prefix_hits.told(self.config, seen)
        return replace(seen, elapsed_s=round(outcome.elapsed_s, 3), cache_reset=reset)

    def await_death(self) -> None:
        """A server that has failed requests and is not healthy may be about to end. Raises as `check` does."""
        if http.health(self.deployment.url, self.plan.health.path) is not None:
            process.wait_until(lambda: self.backend.death(self.deployment) is not None, timeout_s=self.death_s)
        self.check()

    @cached_property
    def engine(self) -> EngineWatch:
        """What the engine tells of its own work, level after level."""
        version = self.engine_version or self.config.runtime.version
        return EngineWatch(self.deployment.url, self.plan.tells, version)

    @cached_property
    def hardware(self) -> HardwareWatch:
        """What the trial's own hardware does, level after level."""
        return HardwareWatch(self.config, self.plan)

    def job(self, level: LevelPlan) -> Job:
        """The call of genai-bench, here or beside the engine."""
        made = command.job(self.config, self.plan, level, url=self.deployment.url, label=self.deployment.lease.label)
        if self.config.bench.location == "here":
            is_resident = self.config.bench.hides_key
            return replace(made, chosen=chosen.of(self.config.traffic, level)) if is_resident else made
        return beside.placed(made, self.config, self.plan, level, self.deployment)

    def read(self, level: LevelPlan, outcome: Outcome) -> Level:
        """The level as genai-bench's files tell it; files that cannot be used make a failed level."""
        try:
            return read(self.config, self.plan, level, outcome)
        except PipelineError as error:
            return _failed(level, record.failure("bench", error))


def read(config: Config, plan: Plan, level: LevelPlan, outcome: Outcome | None = None) -> Level:
    """The level as its files tell it; `outcome`: how the call ended, if that is known.

    Raises:
        BenchFailed: they cannot be used, or no request was answered.
    """
    folder = RunDir(plan.run_dir).level(level.scenario, level.folder)
    try:
        seen, path = results.of(folder, level)
    except BenchFailed as error:
        raise BenchFailed(outcome.error) if outcome and outcome.error else error from error
    try:
        measured = metrics.measure(seen, config.slo, output_tokens_asked=chosen.asked(config.traffic, level, seen))
    except BenchFailed as error:
        raise _unanswered(seen, config, error) from error
    if outcome and outcome.error and path.name != ledger.NAME:
        raise BenchFailed(outcome.error)
    return Level(
        **_place(level),
        status="ok",
        failure=None if measured.is_usable else _failure(measured, config),
        metrics=measured,
        result_file=str(path.relative_to(plan.run_dir)),
        client=seen.client and replace(seen.client, own_from_users=own_from(seen.client, measured.ttft)),
        arrivals=seen.arrivals,
        warnings=metrics.warnings_for(measured, seen),
    )


def _unanswered(seen: Measurement, config: Config, error: BenchFailed) -> BenchFailed:
    """The failure of a run in which no request was answered, with what it means."""
    causes = Counter(request.cause or request.ending for request in seen.requests)
    return _explained(str(error), causes, config)


def _failure(measured: LevelMetrics, config: Config) -> Failure:
    """Why a level that was measured cannot be used."""
    told = ", ".join(f"{said} ({count})" for said, count in measured.error_words.items())
    words = f"{measured.num_errors} of {measured.num_requests} requests failed: {told}"
    limit = f"{words}; at most {config.slo.max_error_rate:.0%} may fail (slo.max_error_rate)"
    return record.failure("bench", _explained(limit, measured.error_codes, config))


def _explained(words: str, causes: Mapping[str, int], config: Config) -> BenchFailed:
    found = diagnose.failed_requests(causes, sum(causes.values()), config.runtime.name)
    return BenchFailed(words, kind=found.kind, hint=found.hint) if found else BenchFailed(words)


def needed_s(cut: Level) -> float:
    """The time in which a cut level would have ended at the pace that it had, and half as much again."""
    seen = cut.metrics
    ended = seen.requests_per_s * seen.run_duration_s if seen else 0
    return SPARE * seen.run_duration_s * seen.num_planned / ended if seen and ended else float("inf")


def _decisive(done: Sequence[Level], config: Config, again: Collection[str]) -> Level | None:
    """The level that would give the objective its value if cut levels counted, but for those measured again."""
    whole = [one if one.name in again else _as_if_whole(one, config) for one in done]
    best = objectives.best_level(whole, config)
    found = next((one for one in done if best and one.name == best.name), None)
    return found if found and found.metrics and found.metrics.is_cut else None


def _as_if_whole(level: Level, config: Config) -> Level:
    """Without an SLO, a request that waited when time was over may have been in a queue: more time will tell."""
    seen = level.metrics
    if seen is None or not seen.is_cut or seen.is_saturated:
        return level
    may_be_slow = not config.slo.is_set and {*seen.error_codes} <= {"missed"}
    return replace(level, metrics=replace(seen, is_cut=False, is_usable=seen.is_usable or may_be_slow))


def raced(done: Sequence[Level], config: Config, best: Incumbent) -> str:
    """Why a trial was stopped."""
    top = objectives.best_level(done, config)
    score = objectives.score(objectives.names(config)[0], top, config) if top else None
    said = f"{score:.4g} at {top.name}" if top and score is not None else f"nothing inside the SLO at {done[-1].name}"
    return (
        f"raced: {said}, trial {best.number} has {best.score:.4g} at {best.level}: "
        f"behind by more than {SDS:g} standard deviations ({best.spread:.1%} each)"
    )


def _failed(level: LevelPlan, why: Failure) -> Level:
    return Level(**_place(level), status="failed", failure=why)


def _place(level: LevelPlan) -> dict[str, Any]:
    return {"scenario": level.scenario, "concurrency": level.concurrency, "rate": level.rate}


def skipped(level: LevelPlan, reason: str, kind: FailureKind) -> Level:
    """A level that was not measured, and why."""
    why = Failure(step="bench", kind=kind, message=reason, hint="")
    return Level(**_place(level), status="skipped", failure=why)
