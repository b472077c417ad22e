"""Every value of the project is frozen, strict about its fields and survives JSON."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fakes import make_lease
from pipeline.backends import Deployment
from pipeline.bench import Job, Outcome
from pipeline.config import planning
from pipeline.config.outline import Outline
from pipeline.core.files import RunDir, save
from pipeline.core.plan import Assets
from pipeline.core.record import Level, Record
from pipeline.core.requests import Measurement, Request
from pipeline.core.schema import Slo
from pipeline.core.teardown import Teardown
from pipeline.core.values import from_json, load, parse, plain, to_json
from pipeline.report import verdict
from pipeline.report.summary import Best, Finding
from pipeline.trial.story import Place
from support.records import make_config, make_failed_record, make_failure, make_levels, make_metrics, make_record

LEASE = replace(
    make_lease(Path("/runs/sweep/7")),
    released=Teardown(by="keeper", seconds=0.5, remaining=("something still listens on port 80",), error="no"),
)
FILES = Assets(model_path=Path("/m.gguf"), tokenizer_dir=Path("/tok"))
REQUEST = Request(ttft_s=0.1, tpot_s=None, e2e_s=0.3, input_tokens=4, output_tokens=1)
BEST = Best(
    trial_id="s/7",
    overrides=("a=1",),
    command="python -m pipeline a=1",
    server_command="server",
    objective={"ttft_p95_s": 1.0},
    verdict="confirmed",
    best_level=None,
    against_baseline=0.1,
    against_baseline_low=0.05,
    against_baseline_high=0.15,
    rounds=4,
)
RECORD = make_record()
VALUES = {
    "config": make_config(slo={"name": "x", "ttft_s": 1, "attainment": 0.9, "max_error_rate": 0.1}),
    "config-with-every-kind-of-knob": make_config(knobs={"a": 1, "b": 1.0, "c": True, "d": "on", "e": None, "f": "1"}),
    "plan": planning.make(make_config(), FILES, sweep_id="s", number=0, run_dir=Path("/runs/s/0")),
    "assets": FILES,
    "lease": LEASE,
    "deployment": Deployment(lease=LEASE, url="http://127.0.0.1:80", port=80, pid=12),
    "job": Job(
        argv=("benchmark",),
        label="x",
        folder=Path("/f"),
        seed=3,
        users=1,
        max_requests=8,
        max_time_s=1.5,
        drain_s=1.0,
        timeout_s=2.0,
    ),
    "outcome": Outcome(exit_code=None, error="hung", elapsed_s=0.5),
    "measurement": Measurement(run_duration_s=1.0, requests=(REQUEST, replace(REQUEST, ending="failed", cause="503"))),
    "metrics": make_metrics(error_codes={"503": 1}, tpot=None),
    "failure": make_failure(),
    "level": make_levels()[0],
    "record": RECORD,
    "failed-record": make_failed_record(tracker=make_failure(), teardown=None),
    "row": verdict.of([RECORD]).rows[0],
    "verdict": verdict.of([RECORD, make_failed_record(number=8)]),
    "best": BEST,
    "finding": Finding(best=BEST, remains=("s/7",), records=(RECORD,), verdict=verdict.of([RECORD])),
    "outline": Outline(total=None),
    "place": Place(sweep_id="s", number=1, overrides=("a=1",), run_dir=RunDir(Path("/runs/s/1"))),
}


@pytest.mark.parametrize("item", VALUES.values(), ids=VALUES)
def test_survives_json(item: Any) -> None:
    again = from_json(type(item), to_json(item))
    assert again == item
    assert to_json(again) == to_json(item)  # 1 == 1.0 == True, but a flag is spelled in one way only


@pytest.mark.parametrize("item", VALUES.values(), ids=VALUES)
def test_refuses_a_field_that_does_not_exist(item: Any) -> None:
    with pytest.raises(ValidationError, match="Unexpected keyword argument"):
        parse(type(item), {**plain(item), "surprise": 1})


@pytest.mark.parametrize("item", VALUES.values(), ids=VALUES)
def test_cannot_be_changed(item: Any) -> None:
    name = next(iter(type(item).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(item, name, getattr(item, name))
    assert not hasattr(item, "__dict__")


def test_takes_keywords_only() -> None:
    with pytest.raises((TypeError, ValidationError)):
        Outline(3)  # type: ignore[call-arg]


def test_checks_the_kind_of_a_field() -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        parse(Outline, {"total": "many"})


def test_a_list_of_values_survives_json() -> None:
    levels = list(make_levels())
    assert from_json(list[Level], to_json(levels)) == levels


def test_infinite_numbers_survive_json() -> None:
    slo = Slo(name="x", ttft_s=float("inf"), attainment=1.0, max_error_rate=0.0)
    assert from_json(Slo, to_json(slo)) == slo


def test_half_a_character_is_a_question_mark() -> None:
    slo = Slo(name="x\ud800", attainment=1.0, max_error_rate=0.0)
    assert from_json(Slo, to_json(slo)).name == "x?"


def test_a_saved_value_is_loaded_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "record.json", RECORD)
    assert load(Record, tmp_path / "record.json") == RECORD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"total": "many"}'], ids=["empty", "cut-off", "list", "wrong-kind"])
def test_refuses_text_that_is_no_such_value(text: str) -> None:
    with pytest.raises(ValidationError):
        from_json(Outline, text)
