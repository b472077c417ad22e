"""The search for the most users of a trial: level by level on its running server (pipeline/core/capacity.py)."""

from pipeline.config import planning
from pipeline.core import capacity, racing
from pipeline.core.errors import FailureKind
from pipeline.core.record import Level
from pipeline.trial.levels import Ladder, raced, skipped


def climb(ladder: Ladder, done: list[Level]) -> None:
    """Measure the levels that `traffic.levels` asks for. Each is appended to `done` as it ends, also when this raises.

    Raises:
        ServerDied, StepTimedOut, Interrupted: the level it happened in is failed, what comes after it skipped.
    """
    if not capacity.is_wanted(ladder.config.traffic):
        ladder.climb(done)
        return
    scenarios = ladder.config.traffic.scenarios
    try:
        for scenario in scenarios:
            _find(ladder, scenario, done)
    except BaseException:
        had = {level.scenario for level in done}
        rest = [level for level in ladder.plan.levels if level.scenario not in had]
        done.extend(skipped(one, "the trial ended before this level", FailureKind.NOT_RUN) for one in rest)
        raise
    done.sort(key=lambda level: (scenarios.index(level.scenario), level.demand))


def _find(ladder: Ladder, scenario: str, done: list[Level]) -> None:
    """The most users of one scenario; less where it is told before that another trial is better."""
    config = ladder.config
    again: set[str] = set()
    traffic = config.traffic
    begin = capacity.start(traffic, scenario, ladder.best.level if ladder.best else None)
    users: int | None = traffic.steps(begin)
    while users is not None:
        planned = planning.level(config, scenario, traffic.at(users), of=ladder.plan.trial_id)
        ladder.take(planned, done)
        ladder.complete(done, again)
        probes = [capacity.probe(level, traffic, config.slo) for level in done if level.scenario == scenario]
        users = capacity.following(probes, traffic, config.slo)
        best, last = ladder.best, done[-1]
        is_beaten = (  # fewer users bring no more than these do, which are too many
            best is not None
            and capacity.is_too_many(probes[-1], probes, traffic, config.slo)
            and not racing.may_reach(last, config, best)
        )
        if best is not None and users is not None and is_beaten:
            why = raced(done, config, best)
            done.append(skipped(planning.level(config, scenario, traffic.at(users)), why, FailureKind.RACED))
            return
