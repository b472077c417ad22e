"""The end of a sweep: what is printed, what is saved, and the exit codes of `python -m pipeline.report`."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from pipeline.core.advice import Advice
from pipeline.core.files import RunDir, SweepDir, save
from pipeline.core.record import Level, Record
from pipeline.core.teardown import Teardown
from pipeline.report import command, table
from pipeline.report.__main__ import main
from pipeline.report.summary import finish
from support.records import make_config, make_failed_record, make_failure, make_levels, make_record

LEFT = Teardown(by="trial", seconds=1.0, remaining=("process 12 [defunct]", "something still listens on port 80"))
AWKWARD = ('traffic.scenarios=["D(64,16)"]', "model.path=/a b/c's.gguf", "objective=[ttft_p95_s,e2e_p50_s]")


def sweep(folder: Path, *records: Record) -> Path:
    for number, record in enumerate(records):
        run = RunDir(folder / str(number))
        run.path.mkdir(parents=True)
        save(run.record, record)
    return folder


def trial(number: int, score: float, **changes: object) -> Record:
    objective = {"output_tokens_per_s": score}
    return make_record(**{"number": number, "objective": objective, "overrides": (f"n={number}",), **changes})


def test_the_table_ranks_trials_against_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sweep(tmp_path, trial(0, 100.0, is_baseline=True), trial(1, 125.0), make_failed_record(number=2)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["rank", "trial", "change", "search", "score", "flags", "overrides"]
    assert lines[1] == ["1", "1", "+25.0%", "(once)", "125", "n=1"]
    assert lines[2] == ["2", "0", "baseline", "100", "n=0"]
    assert lines[3] == ["-", "2", "server_died", "page_size=32"]
    assert " ".join(lines[4]).startswith("search score: output_tokens_per_s, before any confirmation. (once): measured")


def test_the_ranking_is_saved_as_csv(tmp_path: Path) -> None:
    finish(sweep(tmp_path, trial(0, 100.0, is_baseline=True), trial(1, 125.0), make_failed_record(number=2)))
    rows = list(csv.DictReader(SweepDir(tmp_path).ranking.read_text().splitlines()))
    assert list(rows[0]) == [
        "rank", "number", "overrides", "rewrites", "same_as", "is_baseline", "status", "half_width", "measured", "runs",
        "meets_slo", "change", "change_low", "change_high", "change_margin", "rounds", "is_optimal", "flags",
        "is_raced", "best_level", "capacity", "is_top", "quality", "cached_from", "ttft_p95_s",
        "tpot_p95_s", "error_rate", "slo_attainment", "limited_by", "why", "output_tokens_per_s",
    ]  # fmt: skip
    assert [row["output_tokens_per_s"] for row in rows] == ["125.0", "100.0", ""]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[2]["why"] == "server_died in wait"


def test_the_best_trial_can_be_run_again_as_it_is_written(tmp_path: Path) -> None:
    finding = finish(sweep(tmp_path, trial(0, 1.0, overrides=AWKWARD)))
    best = json.loads(SweepDir(tmp_path).best.read_text())
    assert shlex.split(best["command"]) == [*command.program(), *AWKWARD]
    assert best["objective"] == {"output_tokens_per_s": 1.0}
    assert finding.best is not None
    assert finding.best.trial_id == "sweep-1/7"


def test_what_is_printed_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sweep(tmp_path, trial(0, 1.0, overrides=AWKWARD)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Best: "))
    assert shlex.split(line.removeprefix("Best: ")) == [*command.program(), *AWKWARD]


def test_why_a_trial_failed_is_not_said_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = make_failed_record(number=0, notes=("warned: a note",))
    for is_told in (False, True):
        finish(sweep(tmp_path / str(is_told), failed), is_told=is_told)
        out = capsys.readouterr().out
        assert ("hint:" in out) is not is_told
        assert "Trial 0: warned: a note" in out


def test_square_brackets_are_text_and_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = (trial(0, 2.0, overrides=("extra=[/x]",)), trial(1, 1.0, overrides=("objective=[ttft]",)))
    finish(sweep(tmp_path, *records))
    out = capsys.readouterr().out
    assert "extra=[/x]" in out
    assert "objective=[ttft]" in out


def test_what_limits_the_trials_is_told_once_for_all_that_it_is_true_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def limited(because: str) -> Advice:
        return Advice(limit="queue", level="D(64,16) x2", because=because, knobs={"slots": "raise it"})

    unknown = Advice(limit="unknown", level="D(64,16) x2", because="no number is near its limit")
    trials = [trial(0, 100.0, advice=limited("5 of 8")), trial(1, 125.0, advice=limited("6 of 8"))]
    finish(sweep(tmp_path, *trials, trial(2, 90.0, advice=unknown)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "advice" in line.lower()]
    assert lines == ["Trials 0, 1: limited by queue; advice: try slots (raise it)"]
    rows = list(csv.DictReader(SweepDir(tmp_path).ranking.read_text().splitlines()))
    assert [row["limited_by"] for row in rows] == ["queue", "queue", ""]
    told = "Advice: D(64,16) x2 is limited by queue: 6 of 8. Try slots (raise it)."
    assert told in SweepDir(tmp_path).report.read_text()


def test_failures_are_told_with_their_hints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure = make_failure(
        message="The server ended: exit code 1.\nLast lines of server.log:\n  | bad", hint="Mend it."
    )
    finish(sweep(tmp_path, make_failed_record(number=0, failure=failure), trial(1, 1.0)))
    assert "Trial 0, wait: The server ended: exit code 1.\n  hint: Mend it." in capsys.readouterr().out


def test_levels_that_were_not_measured_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = Level(scenario="D(8,4)", concurrency=8, status="skipped", failure=make_failure(message="overloaded"))
    finish(sweep(tmp_path, trial(0, 1.0, levels=(*make_levels(), skipped))))
    assert "Trial 0, D(8,4) x8 skipped: overloaded" in capsys.readouterr().out


def test_notes_and_the_trackers_troubles_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = make_failure(message="W&B [offline] did not answer")
    finish(sweep(tmp_path, trial(0, 1.0, notes=("no /slots: the cache was not reset",), tracker=tracker)))
    out = capsys.readouterr().out
    assert "Trial 0: no /slots: the cache was not reset" in out
    assert "Trial 0, tracker: W&B [offline] did not answer" in out


def test_what_was_left_behind_is_told_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding = finish(sweep(tmp_path, trial(0, 1.0, teardown=LEFT), trial(1, 2.0)))
    left = "process 12 [defunct]; something still listens on port 80"
    expected = f"Trial 0 LEFT BEHIND: {left}. Run: python -m pipeline.reap"
    assert expected in capsys.readouterr().out
    assert finding.remains == ("sweep-1/7",)


@pytest.mark.parametrize(
    ("baselines", "told"),
    [([False, False], True), ([True, False], False), ([False], False)],
    ids=["sweep-without", "sweep-with", "single-trial"],
)
def test_a_sweep_without_a_baseline_is_told_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], baselines: list[bool], *, told: bool
) -> None:
    finish(sweep(tmp_path, *(trial(number, 1.0, is_baseline=flag) for number, flag in enumerate(baselines))))
    assert (
        "No baseline in this sweep: set hydra.sweeper.baseline=true, or add the value null to each knob"
        in capsys.readouterr().out
    ) is told


LONG = tuple(f"knob_{number}=null" for number in range(20))


def test_the_table_fits_a_terminal_and_is_whole_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [trial(0, 1.0, is_baseline=True, overrides=(*LONG, "n=0")), trial(1, 2.0, overrides=LONG)]
    found = finish(sweep(tmp_path, *records, make_failed_record(number=2))).verdict
    lines = table.lines(found, 80)
    assert max(map(len, lines)) == 80
    assert [line[-1] for line in lines[1:3]] == ["…", "…"]
    assert " ".join(LONG) in capsys.readouterr().out
    assert " ".join(LONG) in SweepDir(tmp_path).ranking.read_text()


def test_a_narrow_terminal_has_one_line_for_each_row_and_a_legend(tmp_path: Path) -> None:
    asked = [
        ("page_size=null", "attention_backend=null"),
        *((f"page_size={n}", "attention_backend=fa3") for n in (1, 2)),
    ]
    records = [trial(n, 1.0 + n, is_baseline=n == 0, overrides=words) for n, words in enumerate(asked)]
    failed = make_failed_record(number=3, overrides=("page_size=4", "attention_backend=flashinfer"))
    found = finish(sweep(tmp_path, *records, failed)).verdict
    lines, legend = table.lines(found, 80), table.legend(found, 80)
    assert lines[0].split() == ["#", "trial", "change", "score", "flags", "overrides"]
    assert [line.split()[1] for line in lines[1:]] == ["2", "1", "0", "3"]
    assert lines[1].endswith("ps=2 ab=fa3")
    assert lines[4].endswith("ps=4 ab=flashinfer")
    assert max(map(len, lines)) <= 80
    assert "Short names: ps for page_size, ab for attention_backend" in legend
    assert "(1): measured once, so the difference can be noise" in legend


def test_a_wide_letter_takes_two_columns_of_the_terminal(tmp_path: Path) -> None:
    records = [trial(n, 1.0, overrides=(f"model.name={'日本' * 20}{n}",)) for n in range(2)]
    lines = table.lines(finish(sweep(tmp_path, *records)).verdict, 80)
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) == 3


def test_control_characters_of_a_failure_never_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = make_failed_record(number=0, failure=make_failure(message="a \x1b[2J b"), overrides=("x=\x1b[31mred",))
    finish(sweep(tmp_path, bad, trial(1, 1.0)))
    out = capsys.readouterr().out
    assert "a \\x1b[2J b" in out
    assert "\x1b" not in out


def test_a_record_that_cannot_be_read_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep(tmp_path, trial(0, 1.0), trial(1, 2.0))
    RunDir(folder / "0").record.write_text('{"trial_id": [/broken')
    finding = finish(folder)
    assert finding.best is not None
    assert finding.best.objective == {"output_tokens_per_s": 2.0}
    assert f"{RunDir(folder / '0').record} is skipped, because it cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([trial(0, 1.0), make_failed_record(number=1)], 0),
        ([make_failed_record(number=0)], 1),
        ([], 2),
        ([trial(0, 1.0, teardown=LEFT)], 3),
        ([make_failed_record(number=0, teardown=LEFT)], 3),
    ],
    ids=["a-result", "all-failed", "no-records", "left-behind", "failed-and-left-behind"],
)
def test_the_report_says_by_its_exit_code_how_it_went(tmp_path: Path, records: list[Record], code: int) -> None:
    assert main([str(sweep(tmp_path, *records))]) == code


@pytest.mark.parametrize("where", ["", "nowhere"], ids=["empty", "missing"])
def test_a_folder_without_records_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert main([str(tmp_path / where)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / where} holds no */record.json. Expected the folder of a sweep.\n"
    )


def test_a_sweep_of_two_objectives_has_a_column_for_each(tmp_path: Path) -> None:
    names = ["output_tokens_per_s", "ttft_p95_s"]
    config = make_config(objective=names)
    finish(sweep(tmp_path, make_record(config=config, objective=dict(zip(names, (3.0, 0.5), strict=True)))))
    (row,) = csv.DictReader(SweepDir(tmp_path).ranking.read_text().splitlines())
    assert [row[name] for name in names] == ["3.0", "0.5"]


def test_what_is_true_of_several_trials_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(sweep(tmp_path, *(make_failed_record(number=number) for number in range(3))))
    out = capsys.readouterr().out
    assert "Trials 0, 1, 2, wait: the server ended with code 1\n  hint: Read server.log." in out
    assert out.count("Read server.log.") == 1


def test_a_single_run_beside_others_speaks_of_itself_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does it write over what others left in the folder that they share."""
    folder = sweep(tmp_path, trial(0, 125.0, overrides=("good=1",)), make_failed_record(number=1))
    finding = finish(folder, run=folder / "1")
    assert (finding.exit_code, finding.best) == (1, None)
    assert "good=1" not in capsys.readouterr().out
    assert not [*folder.glob("*.csv"), *folder.glob("best*")]


def test_how_many_users_one_configuration_has_room_for_is_printed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trial(0, 1.0)
    traffic = replace(one.config.traffic, levels="capacity")
    finish(sweep(tmp_path, replace(one, config=replace(one.config, traffic=traffic))))
    assert "Users at a time that trial 0 has room for, each time it was tried: 2 [1, ?]." in capsys.readouterr().out
