"""A level at a rate, by the real resident genai-bench: its prompts, at our times."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fakes.stub_chat import chatting
from pipeline.bench import ledger
from pipeline.bench.resident import Resident
from pipeline.config import planning
from support.measuring import Make, Planned, measure

pytestmark = pytest.mark.live
TIMES = tuple(number / 20 for number in range(8))


def test_the_resident_sends_at_its_times(make: Make, resident: Resident) -> None:
    with chatting() as chat:
        given = make(chat.url, times=TIMES, rate=20.0, users=1)
        config = replace(given.config, traffic=replace(given.config.traffic, arrival="constant", rates=(20.0,)))
        (level, *_) = planning.levels(config)
        plan = replace(given.plan, levels=(replace(level, max_requests=len(TIMES)),))
        job = replace(given.job, max_requests=len(TIMES), folder=given.job.folder.with_name(level.folder))
        found = measure(resident, Planned(config, plan, job), chat.url)
    assert found.metrics is not None
    assert (found.name, found.metrics.num_begun) == ("D(48,16) at 20 requests/s", 8)
    assert found.metrics.fates == {"good": 8}
    assert found.arrivals is not None
    assert found.arrivals.rate == 20.0
    lines = [json.loads(line) for line in (job.folder / ledger.NAME).read_text().splitlines()]
    assert [line["due_s"] for line in lines if "begin" in line] == pytest.approx(TIMES)
