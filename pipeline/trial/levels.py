"""The ladder of levels: rising concurrencies, one genai-bench run each; a failed level does not affect the others."""

from dataclasses import dataclass, replace
from functools import partial

from pipeline.backends import Backend, Deployment
from pipeline.bench import Job, Outcome, Runner, beside, command, results
from pipeline.core import metrics, record
from pipeline.core.errors import BenchFailed, FailureKind, Interrupted, PipelineError
from pipeline.core.files import RunDir
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.record import Failure, Level
from pipeline.core.schema import Config
from pipeline.engines import diagnose
from pipeline.machine import signals
from pipeline.machine.progress import Progress
from pipeline.trial import health, quiet

IDLE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Ladder:
    """Measures the levels of one deployment."""

    config: Config
    plan: Plan
    deployment: Deployment
    backend: Backend
    runner: Runner
    progress: Progress

    def climb(self, done: list[Level]) -> None:
        """Measure every level of the plan, appending each to `done` as it ends, also when this one raises.

        Raises:
            ServerDied, Interrupted: the level it happened in is failed, those after it skipped.
        """
        for index, level in enumerate(self.plan.levels):
            reason = self.reason_to_skip(level, done)
            if reason:
                done.append(skipped(level, reason, FailureKind.OVERLOADED))
                continue
            self.progress.step("bench", detail=f"{level.scenario} x{level.concurrency}")
            try:
                done.append(quiet.level(self.config, self.plan, self.deployment, level, partial(self.measure, level)))
            except (Exception, Interrupted, KeyboardInterrupt) as error:
                done.append(_failed(level, record.failure("bench", error)))
                rest = self.plan.levels[index + 1 :]
                done.extend(skipped(later, "the trial ended before this level", FailureKind.NOT_RUN) for later in rest)
                raise

    def check(self) -> None:
        """The server still runs and nobody has asked us to stop. Raises ServerDied, Interrupted."""
        signals.check()
        health.check_alive(self.backend, self.deployment, RunDir(self.plan.run_dir).server_log)

    def reason_to_skip(self, level: LevelPlan, done: list[Level]) -> str | None:
        """A level of the same scenario with fewer users, measured before, that was overloaded by a wide margin."""
        if self.config.traffic.all_levels:
            return None
        for earlier in done:
            over = earlier.metrics is not None and metrics.is_overloaded(earlier.metrics)
            refused = earlier.failure is not None and earlier.failure.kind == FailureKind.OVERLOADED
            is_less = earlier.scenario == level.scenario and earlier.concurrency < level.concurrency
            if (over or refused) and is_less:
                return f"{earlier.name} was overloaded; set traffic.all_levels=true to measure this level anyway"
        return None

    def measure(self, level: LevelPlan) -> Level:
        """Reset the cache, run genai-bench, read its result.

        Raises:
            ServerDied, Interrupted: from the watch kept on the server.
        """
        reset = health.wait_idle(self.deployment, self.plan, timeout_s=IDLE_TIMEOUT_S, alive=self.check)
        outcome = self.runner.run(self.job(level), self.check)
        self.check()
        return replace(self.read(level, outcome), elapsed_s=round(outcome.elapsed_s, 3), cache_reset=reset)

    def job(self, level: LevelPlan) -> Job:
        """The call of genai-bench, here or beside the engine."""
        made = command.job(self.config, self.plan, level, url=self.deployment.url, label=self.deployment.lease.label)
        if self.config.bench.location == "here":
            return made
        return beside.placed(made, self.config, self.plan, level, self.deployment)

    def read(self, level: LevelPlan, outcome: Outcome) -> Level:
        """The level as genai-bench's files tell it; files that cannot be used make a failed level."""
        folder = RunDir(self.plan.run_dir).level(level.scenario, level.concurrency)
        try:
            if outcome.error:
                raise self.unanswered(results.debug(folder)) or BenchFailed(outcome.error)
            path = results.result_file(folder)
            seen = results.read(path)
            if failed := self.unanswered(seen):
                raise failed
            measured = metrics.measure(seen, self.config.slo, output_tokens_asked=level.output_tokens_asked)
        except PipelineError as error:
            return _failed(level, record.failure("bench", error))
        return Level(
            scenario=level.scenario,
            concurrency=level.concurrency,
            status="ok",
            metrics=measured,
            result_file=str(path.relative_to(self.plan.run_dir)),
            warnings=metrics.warnings_for(measured),
        )

    def unanswered(self, seen: metrics.Measurement | None) -> BenchFailed | None:
        """The failure of a run in which no request was answered, and whether the living server refused them."""
        codes = [str(request.error_code) for request in seen.requests if request.error_code] if seen else []
        if not seen or not codes or len(codes) < len(seen.requests):
            return None
        counts = {code: codes.count(code) for code in set(codes)}
        refused = diagnose.overload(counts, len(codes), self.config.runtime.name)
        words = metrics.no_answer(len(codes), counts)
        return BenchFailed(words, kind=refused.kind, hint=refused.hint) if refused else BenchFailed(words)


def _failed(level: LevelPlan, why: Failure) -> Level:
    return Level(scenario=level.scenario, concurrency=level.concurrency, status="failed", failure=why)


def skipped(level: LevelPlan, reason: str, kind: FailureKind) -> Level:
    """A level that was not measured, and why."""
    why = Failure(step="bench", kind=kind, message=reason, hint="")
    return Level(scenario=level.scenario, concurrency=level.concurrency, status="skipped", failure=why)
