"""What a person sees while trials run."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pipeline.core.quality import Judgement
from pipeline.core.record import Record
from pipeline.machine import progress
from pipeline.machine.progress import Lines, LiveTable, best_so_far
from support.records import make_failed_record, make_failure, make_record


def trial(number: int, score: float, *, name: str = "output_tokens_per_s", **changes: Any) -> Record:
    return make_record(number=number, objective={name: score}, **changes)


def test_lines_tell_a_trial_from_its_beginning_to_its_score(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(4)
    lines.begin(1, ["n_threads=2", "n_parallel=4"])
    lines.step("deploy")
    lines.step("bench", detail="D(64,16) x4")
    lines.ended(trial(1, 41.234))
    first, level, score = capsys.readouterr().out.splitlines()
    assert first == "trial 2/4: n_threads=2 n_parallel=4"
    assert level.endswith(" s  bench D(64,16) x4")
    assert score.endswith(" s  output_tokens_per_s 41.23 at D(64,16) x2")


def test_lines_tell_now_and_then_how_far_a_long_step_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(1)
    for said in ("1 of 9 GiB", "2 of 9 GiB", "3 of 9 GiB"):
        lines.step("model", said)
    lines.told = ("model", lines.told[1] - progress.AGAIN_S)
    lines.step("model", "4 of 9 GiB")
    assert [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "model 1 of 9 GiB",
        "model 4 of 9 GiB",
    ]


def test_lines_tell_every_level_and_the_first_words_of_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(1)
    told = [("bench", "D(64,16) x1"), ("bench", "D(64,16) x4"), ("slots", "waits"), ("model", "pulling")]
    for name, said in told:
        lines.step(name, said)
    lines.step("model")
    lines.step("model", "pulling")
    seen = [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert seen == [" ".join(words) for words in [*told, told[-1]]]


def test_lines_tell_now_and_then_how_far_a_level_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(1)
    for said in ("D(64,16) x1", "D(64,16) x1: 1 of 8 requests", "D(64,16) x1: 2 of 8 requests", "D(64,16) x4"):
        lines.step("bench", said)
    lines.told = (lines.told[0], lines.told[1] - progress.AGAIN_S)
    lines.step("bench", "D(64,16) x4: 9 of 16 requests, 41 output tokens/s")
    assert [line.split(" s  bench ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "D(64,16) x1",
        "D(64,16) x4",
        "D(64,16) x4: 9 of 16 requests, 41 output tokens/s",
    ]


def test_control_characters_of_a_log_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(None).ended(make_failed_record(failure=make_failure(message="it \x1b[2J\x1b[31mdied\x1b]0;x\x07")))
    assert "  wait: it \\x1b[2Jdied\\x1b]0;x\\x07\n" in capsys.readouterr().out
    screen = Screen(2)
    screen.table.begin(0, ["x=\x1b[2J"])
    screen.table.step("deploy", "half\rdone")
    screen.table.close()
    assert "x=\\x1b[2J" in screen.shows()
    assert "half\\rdone" in screen.shows()
    assert "\x1b[2J" not in screen.out.getvalue()


def test_what_is_measured_again_is_counted_beside_the_trials() -> None:
    screen = Screen(2)
    for number, phase in enumerate(("search", "search", "confirm", "confirm", "held_out")):
        screen.table.begin(number, [f"n={number}"])
        screen.table.ended(trial(number, 1.0, phase=phase))
    screen.table.close()
    assert "2 of 2 trials and 3 to confirm; best so far" in screen.shows()
    assert "5 of 2" not in screen.shows()


def test_a_narrow_terminal_has_one_line_for_each_trial() -> None:
    out = StringIO()
    table = LiveTable(Console(file=out, force_terminal=True, width=80, color_system=None), 3)
    for number in range(3):
        table.begin(number, [f"attention_backend=flashinfer chunked_prefill_size=4096 page_size={number}"])
        table.ended(trial(number, 41.234, name="output_tokens_per_s_per_gpu"))
    table.begin(3, ["n=3"])
    table.step("bench", "D(3000,300) x128: 1234 of 4096 requests, 12345 output tokens/s")
    table.close()
    picture = Console(file=StringIO(), width=80)
    with picture.capture() as seen:
        picture.print(table.live.get_renderable())
    rows = seen.get().splitlines()
    assert [row.split()[0] for row in rows[:5]] == ["trial", "0", "1", "2", "3"]
    assert all("41.23 at D(64,16) x2" in row for row in rows[1:4])
    assert rows[0].split()[-1] == "seconds"
    assert "D(3000,300) x128: 1234 of 4096" in rows[4]
    assert max(map(len, rows)) <= 80


def test_lines_tell_why_a_trial_failed(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(None).ended(make_failed_record(failure=make_failure(message="it died", hint="Mend it.")))
    out = capsys.readouterr().out
    assert " s  failed: server_died\n" in out
    assert "  wait: it died\n  hint: Mend it.\n" in out


@pytest.mark.parametrize(
    ("total", "overrides", "line"),
    [(None, [], "trial 1: defaults\n"), (1, ["a=1"], "trial 1/1: a=1\n")],
    ids=["open-end-and-defaults", "known"],
)
def test_lines_count_trials(
    capsys: pytest.CaptureFixture[str], total: int | None, overrides: list[str], line: str
) -> None:
    Lines(total).begin(0, overrides)
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(("kind", "shown"), [(os.pipe, Lines), (os.openpty, LiveTable)], ids=["pipe", "terminal"])
def test_a_pipe_gets_lines_and_a_terminal_a_table(
    kind: Callable[[], tuple[int, int]], shown: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = kind()
    with os.fdopen(near, "rb", buffering=0), os.fdopen(far, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert isinstance(progress.make(3), shown)


class Screen:
    """A terminal of 120 columns and the live table on it."""

    def __init__(self, total: int | None) -> None:
        self.out = StringIO()
        console = Console(file=self.out, force_terminal=True, width=120, color_system=None)
        self.table = LiveTable(console, total)

    def shows(self) -> str:
        """The picture as it stands, without the escapes that move the cursor."""
        picture = Console(file=StringIO(), width=120)
        with picture.capture() as seen:
            picture.print(self.table.live.get_renderable())
        return seen.get()


def test_the_table_shows_the_running_trial_and_its_step() -> None:
    screen = Screen(4)
    screen.table.begin(2, ["n_threads=2"])
    screen.table.step("bench", detail="D(64,16) x4")
    screen.table.close()
    *row, seconds = screen.shows().splitlines()[1].split()
    assert row == ["2", "n_threads=2", "bench", "D(64,16)", "x4"]
    assert 0 <= int(seconds) < 60
    assert "n_threads=2" in screen.out.getvalue()


def test_the_table_keeps_ended_trials_and_the_best_so_far() -> None:
    screen = Screen(4)
    screen.table.begun -= 300
    for number, score in enumerate((10.0, 30.0, 20.0)):
        screen.table.begin(number, [f"n={number}"])
        screen.table.ended(trial(number, score))
    screen.table.close()
    shown = screen.shows()
    assert [line.split()[:2] for line in shown.splitlines()[1:4]] == [["0", "n=0"], ["1", "n=1"], ["2", "n=2"]]
    said = "3 of 4 trials; best so far: trial 1 (output_tokens_per_s 30 at D(64,16) x2); about "
    seconds = shown.partition(said)[2].partition(" s to go")[0]
    assert 100 <= int(seconds) < 120  # a third of the 300 s


def test_the_table_shows_a_failed_trial_by_its_kind() -> None:
    screen = Screen(2)
    screen.table.begin(0, ["n=0"])
    screen.table.ended(make_failed_record(number=0))
    screen.table.close()
    assert "failed: server_died" in screen.shows()
    assert "best so far" not in screen.shows()


def test_the_table_keeps_only_the_last_trials_in_sight() -> None:
    screen = Screen(None)
    for number in range(progress.SHOWN + 3):
        screen.table.begin(number, [f"n={number}"])
        screen.table.ended(trial(number, 1.0))
    screen.table.close()
    shown = screen.shows()
    assert [line.split()[0] for line in shown.splitlines()[1 : progress.SHOWN + 1]] == [str(n) for n in range(3, 15)]
    assert "15 trials" in shown


def test_lines_of_several_trials_tell_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(4)
    one, other = lines.beside(), lines.beside()
    one.begin(0, ["n=0"])
    other.begin(3, ["n=3"])
    one.step("bench", "D(48,16) x4")
    other.ended(make_failed_record(number=3, failure=make_failure(message="it died", hint="Mend it.")))
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["[0] trial 1/4: n=0", "[3] trial 4/4: n=3"]
    assert said[2].startswith("[0] ")
    assert said[2].endswith(" s  bench D(48,16) x4")
    assert [line[:4] for line in said[3:]] == ["[3] "] * 3


def test_the_table_shows_every_running_trial() -> None:
    screen = Screen(4)
    one, other = screen.table.beside(), screen.table.beside()
    one.begin(0, ["n=0"])
    other.begin(1, ["n=1"])
    one.step("deploy")
    other.step("bench", "D(64,16) x4")
    rows = [line.split()[:3] for line in screen.shows().splitlines()[1:3]]
    one.ended(trial(0, 10.0))
    screen.table.close()
    assert rows == [["0", "n=0", "deploy"], ["1", "n=1", "bench"]]
    assert [line.split()[:3] for line in screen.shows().splitlines()[1:3]] == [
        ["0", "n=0", "output_tokens_per_s"],
        ["1", "n=1", "bench"],
    ]


def test_silence_is_a_progress_too(capsys: pytest.CaptureFixture[str]) -> None:
    silent = progress.Silent()
    silent.begin(0, [])
    silent.step("deploy")
    silent.ended(trial(0, 1.0))
    silent.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("word", ["extra=[/x]", "objective=[ttft_p95_s]"], ids=["like-an-end-tag", "like-a-tag"])
def test_square_brackets_are_text_and_no_markup(word: str) -> None:
    screen = Screen(2)
    screen.table.begin(0, [word])
    assert word in screen.shows()
    screen.table.ended(trial(0, 1.0))
    screen.table.close()
    assert word in screen.shows()


def test_a_table_that_was_never_opened_closes_quietly() -> None:
    screen = Screen(1)
    screen.table.close()
    assert screen.out.getvalue() == ""


FAILED = make_failed_record(number=9)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([trial(0, 1.0), trial(1, 3.0), FAILED, trial(2, 2.0)], 1),
        ([trial(n, score, name="ttft_p95_s") for n, score in enumerate((0.3, 0.1, 0.2))], 1),
        ([FAILED, trial(1, 0.0)], 1),
        ([trial(0, 1.0), trial(1, 0.1, name="ttft_p95_s")], 0),
        ([trial(0, 1.0), replace(trial(1, 3.0), quality=Judgement(word="broken", may_win=False))], 0),
        ([FAILED], None),
        ([], None),
    ],
    ids=["most-throughput", "least-latency", "zero-is-a-result", "another-objective", "broken", "all-failed", "none"],
)
def test_the_best_so_far_is_the_best_by_the_first_objective(records: list[Record], expected: int | None) -> None:
    found = best_so_far(records)
    assert (found.number if found else None) == expected


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (trial(0, 41.234), "output_tokens_per_s 41.23 at D(64,16) x2"),
        (trial(0, 0.0, best_level=None), "output_tokens_per_s 0"),
        (trial(1, 41.234, same_as=0), "output_tokens_per_s 41.23 at D(64,16) x2 (as trial 0)"),
        (FAILED, "failed: server_died"),
        (replace(FAILED, failure=None, status="interrupted"), "interrupted: no result"),
    ],
    ids=["with-its-level", "without-a-level", "shared", "failed", "nothing-known"],
)
def test_a_score_is_a_number_or_a_kind_of_failure(record: Record, words: str) -> None:
    assert progress.score(record) == words
