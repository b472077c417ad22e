"""The folder of a made-up sweep of any size: knobs that matter and one that does not, failures with logs, repeats."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.core.errors import FailureKind
from pipeline.core.files import RunDir, save
from pipeline.core.record import Level, Record, Stats, StepTiming
from pipeline.core.values import now
from support.records import make_config, make_failed_record, make_failure, make_metrics, make_record

USERS = (1, 4, 16, 64)
SLO = {"name": "chat", "attainment": 0.9, "max_error_rate": 0.1, "limits": {"ttft_p95_s": 1.0}}
NAME = "output_tokens_per_s_per_gpu"


def write(folder: Path, count: int, *, confirm: int = 3, seed: int = 1) -> list[Record]:
    """The records, written with the logs of those that failed."""
    made = list(records(count, confirm=confirm, seed=seed))
    for record in made:
        run_dir = RunDir(folder / str(record.number))
        run_dir.path.mkdir(parents=True)
        save(run_dir.record, record)
        if record.status == "failed":
            run_dir.server_log.write_text("loading <weights>\n" * 40 + "torch.OutOfMemoryError: CUDA out of memory.\n")
    return made


def records(count: int, *, confirm: int, seed: int) -> Iterator[Record]:
    """`count` configurations in two slots, one in nine of which fails; then rounds of winner and baseline."""
    dice, begin = random.Random(seed), now() - timedelta(hours=9)  # noqa: S311 - no secret
    scores: dict[int, float] = {}
    made: dict[int, Record] = {}
    for number in range(count):
        knobs = (
            {"page_size": None, "slots": None}
            if number == 0
            else {"page_size": dice.choice([16, 32, 64, 128]), "slots": dice.choice([None, 1, 2, 4, 8])}
        )
        record = trial(number, knobs, dice, begin + timedelta(minutes=4 * (number // 2)), fails=number % 9 == 5)
        made[number] = record
        if record.objective:
            scores[number] = record.objective[NAME]
        yield record
    best = max(scores, key=lambda number: scores[number])
    for turn in range(confirm * 2 if best else 0):
        which = (best, 0, 0, best)[turn % 4]
        at = begin + timedelta(minutes=4 * (count // 2 + 1 + turn))
        again = trial(count + turn, dict(made[which].config.knobs), dice, at, fails=False)
        yield replace(again, repeat_of=which, phase="confirm")


def trial(number: int, knobs: dict[str, Any], dice: random.Random, started: Any, *, fails: bool) -> Record:
    """One, with levels that bend like real ones."""
    slots = knobs["slots"] or 4
    speed = 300 * (1 + 0.12 * slots) * (1 + 0.002 * (knobs["page_size"] or 32)) * dice.gauss(1, 0.015)
    levels = tuple(level(users, speed, slots, dice) for users in USERS)
    best = max(
        (one for one in levels if one.metrics and one.metrics.meets_slo),
        key=lambda one: one.metrics.output_tokens_per_s if one.metrics else 0,
        default=None,
    )
    steps = [
        ("preflight", 1.5),
        ("deploy", 0.4),
        ("health", dice.uniform(30, 80)),
        ("warmup", 3),
        ("bench", 130),
        ("teardown", 4),
    ]
    common: dict[str, Any] = {
        "number": number,
        "trial_id": f"sweep/{number}",
        "config": make_config(knobs=knobs, slo=SLO, objective=[NAME]),
        "overrides": tuple(f"{name}={'null' if seen is None else seen}" for name, seen in knobs.items()),
        "is_baseline": number == 0,
        "started_at": started,
        "ended_at": started + timedelta(seconds=sum(seconds for _, seconds in steps)),
        "steps": tuple(StepTiming(step=step, seconds=seconds, status="ok") for step, seconds in steps),
        "environment": {"host": "node-1", "gpu": "NVIDIA H100 80GB HBM3", "driver": "570.86", "python": "3.11"},
    }
    if fails:
        kind = FailureKind.OOM_GPU
        words = "the server ended with code 1: CUDA out of memory. <b>Tried</b> to allocate 2.00 GiB."
        return make_failed_record(
            **common, failure=make_failure(step="health", kind=kind, message=words, hint="Lower mem_fraction_static.")
        )
    objective = {NAME: best.metrics.output_tokens_per_s if best and best.metrics else 0.0}
    return make_record(**common, levels=levels, objective=objective, best_level=best.name if best else None)


def level(users: int, speed: float, slots: int, dice: random.Random) -> Level:
    """Throughput saturates with the slots, waiting grows beyond them."""
    rate = speed * users / (users + 2 * slots) * dice.gauss(1, 0.01)
    ttft, tpot = (0.08 + 0.02 * max(0, users - slots) / slots) * dice.gauss(1, 0.05), users / rate
    stats = {
        name: Stats(mean=seen, p50=seen, p90=1.2 * seen, p95=1.3 * seen, p99=1.6 * seen)
        for name, seen in (("ttft", ttft), ("tpot", tpot), ("e2e", ttft + 16 * tpot))
    }
    metrics = make_metrics(output_tokens_per_s=rate, meets_slo=1.3 * ttft <= 1.0, slo_attainment=None, **stats)
    return Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=metrics)
