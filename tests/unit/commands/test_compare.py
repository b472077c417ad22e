"""`servetune compare`: what it says of two sweeps, of real trials too, and of what is no sweep."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import compare
from pipeline.core.files import SweepDir
from support import forked
from support.cli import command, pipeline
from support.places import ROOT
from support.two_sweeps import sweep, write

ROUNDS = ((120.0, 100.0), (118.0, 99.0), (122.0, 101.0))
MORE = ((150.0, 100.0), (148.0, 99.0), (152.0, 101.0))


@pytest.fixture
def monday(tmp_path: Path) -> Path:
    return write(tmp_path / "monday", sweep("monday", {None: [100.0], 32: [125.0]}, ROUNDS, of=32))


@pytest.fixture
def friday(tmp_path: Path) -> Path:
    return write(tmp_path / "friday", sweep("friday", {None: [100.0], 32: [152.0]}, MORE, of=32, day=5))


def compared(*words: Path | str) -> int:
    return compare.main([*map(str, words)])


def test_two_sweeps_side_by_side(monday: Path, friday: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(monday.rglob("*")), sorted(friday.rglob("*"))
    assert compared(monday, friday) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"A  {monday}\nB  {friday}\n\nIn common\n")
    assert "\nB against A, recommended: better by 25.0% [" in out
    assert "\nB against A, baseline: no difference shown (+0.0% [" in out
    assert err == ""
    assert (sorted(monday.rglob("*")), sorted(friday.rglob("*"))) == before  # it writes nothing


def test_json_has_all_of_it(monday: Path, friday: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared("--json", monday, friday) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["folder"] for one in found["sweeps"]] == [str(monday), str(friday)]
    (pair,) = found["pairs"]
    assert (pair["sweep"], pair["against"], pair["obstacles"]) == ("B", "A", [])
    assert pair["recommended"][0]["verdict"] == "better"
    assert pair["recommended"][0]["low"] < pair["recommended"][0]["change"] < pair["recommended"][0]["high"]
    assert {tuple(row["overrides"]) for row in found["configurations"]} == {(), ("page_size=32",)}
    assert found["sweeps"][1]["recommended"]["samples"] == {"output_tokens_per_s": [150.0, 148.0, 152.0]}


def test_scores_of_different_things_end_with_1(
    monday: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other", sweep("other", {None: [1.0]}, config={"objective": ["requests_per_s"]}))
    assert compared(monday, other) == 1
    assert "The scores of B and A cannot be compared: they differ in objective (" in capsys.readouterr().out
    assert compared("--json", monday, other) == 1
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["obstacles"] == [{"name": "objective", "values": ["output_tokens_per_s", "requests_per_s"]}]


def test_what_is_no_sweep_gets_one_line(monday: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(monday)
    shutil.copytree(monday, tmp_path / "copy")
    outputs = write(tmp_path / "outputs/one", sweep("one", {None: [1.0]})).parent
    rows = {
        (): "Expected the folders of 2 to 26 sweeps, seen none.",
        (monday,): f"Expected the folders of 2 to 26 sweeps, seen only {monday}.",
        (monday,) * 27: "Expected the folders of 2 to 26 sweeps, seen 27.",
        (monday, monday): f"{monday} is there twice. Expected different sweeps.",
        (monday, tmp_path / "link"): f"{tmp_path}/link is there twice. Expected different sweeps.",
        (monday, tmp_path / "copy"): f"{tmp_path}/copy and {monday} hold the same trials: one is a copy of the other.",
        (monday, tmp_path / "nowhere"): f"{tmp_path}/nowhere does not exist. Expected the folder of a sweep.",
        (monday, tmp_path / "file"): f"{tmp_path}/file is not a folder. Expected the folder of a sweep.",
        (monday, tmp_path / "empty"): f"{tmp_path}/empty holds no */record.json. Expected the folder of a sweep.",
        (monday, outputs): f"{outputs} holds no */record.json. Expected the folder of a sweep, such as {outputs}/one.",
        (monday, monday / "0"): (
            f"{monday}/0 holds no */record.json. Expected the folder of a sweep; "
            f"this is one trial's, perhaps of {monday}."
        ),
    }
    for words, said in rows.items():
        assert compared(*words) == 2
        assert capsys.readouterr() == ("", f"error: {said}\n")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[: len(text) // 2], "it is damaged, or was not written to its end"),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 0'),
            "it has schema 0, this servetune reads",
        ),
    ],
    ids=["damaged", "older"],
)
def test_records_that_cannot_be_read_are_named(
    monday: Path, friday: Path, capsys: pytest.CaptureFixture[str], damage: object, why: str
) -> None:
    assert callable(damage)
    first, *others = SweepDir(friday).records
    first.write_text(damage(first.read_text()))
    assert compared(monday, friday) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"{first} is skipped, because it cannot be read: {why}")
    assert err.count("\n") == 1
    assert "7 ok, 1 unreadable" in out
    for path in others:
        path.write_text(damage(path.read_text()))
    assert compared(monday, friday) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count(" is skipped, ") == 8
    assert err.endswith(f"error: {friday}: none of its 8 records can be read.\n")


def test_a_terminal_without_our_letters_and_a_reader_that_leaves_are_no_error(monday: Path, friday: Path) -> None:
    argv = [*command(sweep=False, module="pipeline.compare"), str(monday), str(friday)]
    shell = ["bash", "-c", 'set -o pipefail; "$@" | head -n 2', "bash", *argv]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"A  {monday}\nB  {friday}\n", "")
    plain = forked.run(argv, env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (plain.returncode, plain.stderr) == (0, "")
    assert "100 ?2.5" in plain.stdout


def test_two_real_sweeps(tmp_path: Path, tiny_gguf: Path) -> None:
    env, quick = {"STUB_BENCH_RATE": "slots"}, ("traffic.concurrencies=[1]", "bench.crowded=ignore")
    for name, words in (("a", "parallel=2,4"), ("b", "parallel=4,8")):
        pipeline(words, *quick, folder=tmp_path / name, gguf=tiny_gguf, sweep=True, env=env)
    argv = [sys.executable, "-m", "pipeline.compare", str(tmp_path / "a"), str(tmp_path / "b")]
    done = forked.run(argv)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "parallel 2, 4 4, 8" in lines
    assert any(line.endswith("(once) parallel=4") for line in lines)
    assert "B against A: 1 configuration in both, 1 only in A, 1 only in B; of those 1 (once)." in lines
