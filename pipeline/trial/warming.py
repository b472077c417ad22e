"""Warms the prefix cache before a level, where the traffic asks for that; the level's own clock starts afterwards."""

from pipeline.bench import Job, Runner, Watch, chosen
from pipeline.core.errors import BenchFailed
from pipeline.core.schema import Config
from pipeline.machine.progress import Progress

HINT = "Raise timeouts.warmup_s if the server is slow; traffic.cache=cold does without."


def send(config: Config, job: Job, runner: Runner, progress: Progress, watch: Watch) -> str:
    """Send it; what was done, in words that go on where those of the cache's emptying end.

    Raises:
        BenchFailed: it was not answered, or not within timeouts.warmup_s.
        Exception: what `watch` raises.
    """
    count = chosen.count(job) if config.traffic.cache == "warm" else 0
    if not count:
        return ""
    progress.step("bench", detail=f"warms the prefix cache with {count} requests")
    outcome = runner.run(chosen.warming(job, config.timeouts.warmup_s), watch)
    if outcome.error:
        raise BenchFailed(outcome.error, hint=HINT)
    return f", then warmed with {count} requests in {outcome.elapsed_s:.1f} s"
