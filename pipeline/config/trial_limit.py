"""How long a trial may take as a whole: timeouts.trial_s, else the sum of what its steps may take. Pure.

Downloads and waiting for GPUs do not count, and teardown comes after it: what is deployed is always removed in full.
"""

import math
from collections.abc import Mapping

from pipeline.core import capacity
from pipeline.core.findings import Finding
from pipeline.core.schema import Config
from pipeline.models.estimate import estimate

UNCOUNTED = ("model", "slots")  # steps: the model's and the image's way here; the other trials
FILES_TIMEOUT_S = 30.0  # for writing the lease, for writing the record
HEALTH_GRACE_S = 15.0  # beyond the health check's own deadline, for an answer that never ends
SETTINGS_S = 120.0  # twice engines.told.PATIENCE_S: for both questions, and for an answer that trickles
WARMUP_GRACE_S = 5.0  # beyond timeouts.warmup_s, for the message with the last answer
IDLE_TIMEOUT_S = 30.0  # before each level, for what earlier levels have left running
LONGEST_REPEAT = 10  # a level that was cut is measured again for this many times traffic.max_time_per_level_s


def of(config: Config) -> float:
    """The limit in seconds."""
    return config.timeouts.trial_s or sum(steps(config).values())


def steps(config: Config) -> Mapping[str, float]:
    """What each step that counts may take, in seconds."""
    timeouts = config.timeouts
    return {
        "preflight": timeouts.preflight_s,
        "lease": FILES_TIMEOUT_S,
        "deploy": config.backend.deploy_s or timeouts.deploy_s,
        "health": config.runtime.health.timeout_s + HEALTH_GRACE_S,
        "settings": SETTINGS_S,
        "warmup": timeouts.warmup_s + WARMUP_GRACE_S,
        "bench_start": config.bench.start_timeout_s + config.tracker.timeout_s,
        "bench": _levels_s(config) + SETTINGS_S,
        "evals": config.quality.evals.timeout_s if config.quality.evals.now else 0.0,
        "quality": config.quality.budget_s if config.quality.kind == "guard" else 0.0,
    }


def too_short(config: Config) -> tuple[Finding, ...]:
    """A warning, where the levels may take longer than the trial is given."""
    limit_s, traffic = config.timeouts.trial_s, config.traffic
    if limit_s is None:
        return ()
    count, each_s = capacity.most_levels(traffic), traffic.max_time_per_level_s + traffic.drain_s
    load_s = estimate(config).load_s or 0.0
    if count * each_s + load_s <= limit_s:
        return ()
    start = f", and the server some {load_s:.0f} s to be ready" if load_s else ""
    reason = (
        f"timeouts.trial_s={limit_s:g}, but the levels may take {count * each_s:g} s ({count} x {each_s:g} s: "
        f"traffic.max_time_per_level_s and traffic.drain_s){start}: a trial that is not done by then fails, with the "
        "levels that it has measured in its record"
    )
    return (Finding(rule="trial_limit", verdict="warned", reason=reason, source="timeouts.trial_s"),)


def _levels_s(config: Config) -> float:
    """Each level once, twice where a crowded machine has it repeated; and the one that decides again, if it was cut."""
    traffic = config.traffic
    is_repeated = config.bench.crowded == "repeat" and not config.backend.is_elsewhere
    warming_s = config.timeouts.warmup_s if traffic.cache == "warm" else 0.0
    beside = IDLE_TIMEOUT_S + warming_s + traffic.drain_s + config.bench.level_grace_s
    once = capacity.most_levels(traffic) * (traffic.max_time_per_level_s + beside)
    again = LONGEST_REPEAT * traffic.max_time_per_level_s + beside
    return math.ceil((once + again) * (2 if is_repeated else 1))
