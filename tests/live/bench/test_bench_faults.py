"""Everything that can end a level early: it costs that level, says why, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from fakes.stub_chat import Chat, Mood, chatting
from pipeline.bench import command
from pipeline.bench.resident import Resident
from pipeline.core.values import to_json
from pipeline.machine import process
from support.measuring import Make, children, driver_of, measure, message, run
from support.places import ROOT

pytestmark = pytest.mark.live

OWNER = """
import sys
from pathlib import Path
from pipeline.bench.resident import Resident
from pipeline.core.values import from_json
from pipeline.bench import Job
runner = Resident(Path(sys.argv[1]))
runner.start()
runner.wait_ready(timeout_s=120, watch=lambda: None)
print(runner.driver.child.pid, flush=True)
runner.run(from_json(Job, sys.argv[2]), lambda: None)
"""


def test_refused_requests_are_told_in_words(resident: Resident, make: Make) -> None:
    with chatting("refuse") as chat:
        seen = message(measure(resident, make(chat.url), chat.url))
        assert seen == "0 of 8 requests answered: HTTP 503: no room (8)"
        chat.mood = "answer"
        assert measure(resident, make(chat.url, "next"), chat.url).status == "ok"


@pytest.mark.parametrize(
    ("mood", "scenario"),
    [
        pytest.param("at once", "D(48,2)", id="answers in one piece"),
        pytest.param("answer", "D(48,1)", id="answers of one token"),
    ],
)
def test_answers_without_a_time_per_token_are_kept(resident: Resident, make: Make, mood: Mood, scenario: str) -> None:
    with chatting(mood) as chat:
        level = make(chat.url, scenario=scenario)
        seen = measure(resident, level, chat.url)
    assert seen.metrics is not None, message(seen)
    assert (seen.metrics.num_requests, seen.metrics.num_errors) == (8, 0)
    assert seen.metrics.ttft is not None
    assert seen.metrics.tpot is None


def test_a_server_that_is_gone_is_told_in_words(resident: Resident, make: Make) -> None:
    with chatting() as chat:
        url = chat.url
    seen = message(measure(resident, make(url), url))
    assert seen == "0 of 8 requests answered: connection refused (8)"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        pytest.param(
            {"max_time_s": 1.0, "drain_s": 0.5},
            "0 of 1 requests answered: no answer in time (1)",
            id="time of the level",
        ),
        pytest.param({"max_time_s": 60.0, "timeout_s": 2.0}, "did not end within 2 s", id="time of the call"),
    ],
)
def test_a_server_that_never_answers_costs_one_level(
    resident: Resident, make: Make, limits: dict[str, Any], words: str
) -> None:
    with chatting("silent") as chat:
        level = make(chat.url, **limits)
        assert words in message(measure(resident, level, chat.url))
        assert (level.job.folder / command.CONSOLE).stat().st_size > 0
        chat.mood = "answer"
        assert run(resident, make(chat.url, "next").job).error is None


def test_a_killed_child_costs_one_level(resident: Resident, make: Make) -> None:
    with chatting("silent") as chat:
        driver = driver_of(resident)

        def kill_child() -> None:
            if chat.prompts:
                for child in children(driver):
                    child.kill()

        seen = resident.run(make(chat.url).job, kill_child)
        assert (seen.exit_code, seen.error) == (-signal.SIGKILL, "genai-bench ended early: killed by SIGKILL")
        chat.mood = "answer"
        assert run(resident, make(chat.url, "next").job).error is None
        assert driver_of(resident) == driver


def test_a_killed_driver_is_replaced(own_resident: Resident, make: Make) -> None:
    with chatting("silent") as chat:
        own_resident.start()
        first = driver_of(own_resident)

        def kill_driver() -> None:
            if chat.prompts and first.is_running():
                first.kill()

        seen = own_resident.run(make(chat.url).job, kill_driver)
        assert seen.exit_code is None
        assert seen.error == f"the genai-bench runner died; see {own_resident.log}"
        chat.mood = "answer"
        assert run(own_resident, make(chat.url, "next").job).error is None
        assert driver_of(own_resident) != first


def test_what_the_watch_raises_stops_the_child(resident: Resident, make: Make) -> None:
    class Enough(Exception):
        pass

    with chatting("silent") as chat:

        def watch() -> None:
            if chat.prompts:
                raise Enough

        with pytest.raises(Enough):
            resident.run(make(chat.url).job, watch)
        assert children(driver_of(resident)) == []
        chat.mood = "answer"
        assert run(resident, make(chat.url, "next").job).error is None


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting() as running:
        yield running


def test_a_broken_tokenizer_costs_its_levels_only(resident: Resident, chat: Chat, make: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text('{"model": {"type": "nonsense"}}')
    level = make(chat.url)
    words = [str(broken) if word == str(level.plan.tokenizer_dir) else word for word in level.job.argv]
    resident.start(broken)
    seen = run(resident, replace(level.job, argv=tuple(words)))
    assert seen.exit_code == 1
    assert seen.error
    resident.start(level.plan.tokenizer_dir)
    assert run(resident, make(chat.url, "next").job).error is None


def test_closing_leaves_no_process(own_resident: Resident) -> None:
    own_resident.start()
    own_resident.wait_ready(timeout_s=120, watch=lambda: None)
    driver = driver_of(own_resident)
    own_resident.close()
    assert not driver.is_running()
    own_resident.close()


def test_closing_does_not_wait_for_an_import(own_resident: Resident) -> None:
    own_resident.start()
    driver = driver_of(own_resident)
    own_resident.close()
    assert not driver.is_running()


def test_a_killed_owner_leaves_neither_driver_nor_child(make: Make, tmp_path: Path) -> None:
    with chatting("silent") as chat:
        argv = [sys.executable, "-c", OWNER, str(tmp_path / "runner.log"), to_json(make(chat.url).job)]
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env) as owner:
            assert owner.stdout is not None
            driver = psutil.Process(int(owner.stdout.readline()))
            assert process.wait_until(lambda: bool(chat.prompts), timeout_s=180)
            (child,) = children(driver)
            owner.kill()
        assert process.wait_until(lambda: not (process.is_running(driver) or process.is_running(child)), timeout_s=180)
