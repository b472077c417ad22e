"""What a sweep prints and leaves can be pasted: from another folder, by a shell that knows nothing of the sweep's."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import recheck
from pipeline.core import readable
from pipeline.core.origin import Origin
from pipeline.core.record import Record
from pipeline.report import command
from pipeline.report.best import scripts
from support.cli import Result
from support.places import TESTS
from support.records import make_record

OVERRIDES = (
    "hydra.sweeper.confirm=0",
    "runtime=stub",
    "model=gguf",
    "model.path=models/m.gguf",
    "traffic=two_levels",
    "traffic.concurrencies=[1]",
    "tracker=none",
    "bench.runner=cli",
    f"bench.program={TESTS}/fakes/bench/genai-bench",
    "+runtime.env.MOOD=${oc.env:STUB_MOOD}",
    "parallel=null,4",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of every command here; the sweep's own variables are not in it."""
    root = tmp_path_factory.mktemp("state")
    places = {f"SERVETUNE_{name}_DIR": str(root / name) for name in ("STATE", "CACHE", "SLOTS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {name: text for name, text in os.environ.items() if not name.startswith(("SERVETUNE_", "STUB_"))}
    return {**own, **places, "PATH": path, "SERVETUNE_CROWDED": "ignore", "STUB_BENCH_RATE": "slots"}


def shell(script: str, cwd: Path, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, world: dict[str, str]) -> tuple[Result, Path]:
    """A sweep by relative paths, options and variables of the user's own, whose folder was moved; and its place."""
    home = tmp_path_factory.mktemp("my work")
    (home / "models").mkdir()
    shutil.copy(tiny_gguf, home / "models" / "m.gguf")
    shutil.copytree(TESTS / "fakes" / "conf", home / "conf")
    words = ["-m", "--config-dir", "conf", *OVERRIDES]
    own = {"SERVETUNE_TESTS": str(TESTS), "STUB_MOOD": "it's fine"}
    done = shell(f"exec servetune {shlex.join([*words, 'hydra.sweep.dir=out'])}", home, {**world, **own})
    folder = (home / "out").rename(tmp_path_factory.mktemp("moved") / "sweep")
    return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder), home


def ran(done: "subprocess.CompletedProcess[str]", folder: Path) -> Record:
    assert done.returncode == 0, done.stderr + done.stdout
    record = readable.read(Record, folder / "0" / "record.json")
    assert (record.status, record.config.runtime.env["MOOD"]) == ("ok", "it's fine")
    assert record.config.knobs["parallel"] == 4
    return record


def printed(result: Result) -> str:
    return next(line for line in result.out.splitlines() if line.startswith("Best: ")).removeprefix("Best: ")


def test_the_best_command_as_it_is_printed(sweep: tuple[Result, Path], world: dict[str, str], tmp_path: Path) -> None:
    result, home = sweep
    assert result.code == 0, result.out
    best = printed(result)
    assert best.startswith(f"cd '{home}' && SERVETUNE_CROWDED=ignore SERVETUNE_TESTS={TESTS} STUB_MOOD=")
    assert f" servetune --config-dir '{home}/conf' runtime=stub " in best
    again = ran(shell(f"{best} hydra.run.dir='{tmp_path}/0'", tmp_path, world), tmp_path)
    assert again.origin == result.records[1].origin


def test_the_script_and_the_list(sweep: tuple[Result, Path], world: dict[str, str], tmp_path: Path) -> None:
    best = sweep[0].folder / "best"
    ran(shell(f"{best}/command.sh hydra.run.dir={tmp_path}/script/0", tmp_path, world), tmp_path / "script")
    listed = (best / "overrides.txt").read_text().splitlines()
    before = "\n".join(line.removeprefix("# ") for line in listed if line.startswith("#"))
    # As docs/results-and-report.md has it
    command = f"{before}\ngrep -v '^#' {best}/overrides.txt | xargs -d '\\n' servetune hydra.run.dir={tmp_path}/list/0"
    ran(shell(command, tmp_path, world), tmp_path / "list")


def test_the_recheck(sweep: tuple[Result, Path], world: dict[str, str], tmp_path: Path) -> None:
    folder = sweep[0].folder
    done = shell(f"cd {folder} && best/recheck.sh", tmp_path, world)
    assert "As expected." in done.stdout, done.stderr
    (measured,) = (folder / "recheck").iterdir()
    ran(done, measured)
    assert printed(sweep[0]) in (folder / "best" / "card.md").read_text()


SECRET = Origin(
    searchpath=("file:///c d", "pkg://more"),
    variables={"A_TOKEN": None, "B": "x y"},
    folder="/no/such",
    program="/no/py",
)


def test_secrets_come_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/servetune"])
    record = make_record(origin=SECRET)
    assert command.line(record) == (
        "cd /no/such && A_TOKEN=\"$A_TOKEN\" B='x y' /somewhere/else/servetune "
        "'hydra.searchpath=['\"'\"'file:///c d'\"'\"','\"'\"'pkg://more'\"'\"']' page_size=32"
    )
    assert scripts.overrides(record).splitlines() == [
        "# cd /no/such", "# export A_TOKEN=...", "# export B='x y'",
        "hydra.searchpath=['file:///c d','pkg://more']", "page_size=32",
    ]  # fmt: skip
    script = tmp_path / "command.sh"
    script.write_text(scripts.command(record))
    done = shell(f"sh {script}", tmp_path, {"PATH": os.environ["PATH"]})
    assert done.returncode != 0
    assert "A_TOKEN: it was set for the sweep, and is not written down" in done.stderr
    (tmp_path / "servetune").write_text('#!/bin/sh\necho "$A_TOKEN" "$B" "$@"\n')
    (tmp_path / "servetune").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "A_TOKEN": "t", "B": "mine"}
    assert shell(f"sh {script} n=1", tmp_path, env).stdout.startswith("t mine hydra.searchpath=[")


@pytest.mark.parametrize(
    ("called", "path", "expected"),
    [
        ("/x/pipeline/__main__.py", Path(sys.executable).parent, ("python", "-m", "pipeline")),
        ("/x/pipeline/__main__.py", Path("/nowhere"), (sys.executable, "-m", "pipeline")),
        ("/x/bin/servetune", Path("/nowhere"), ("/x/bin/servetune",)),
    ],
)
def test_the_program_is_what_a_shell_finds(
    monkeypatch: pytest.MonkeyPatch, called: str, path: Path, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setenv("PATH", str(path))
    assert command.program() == expected


@pytest.mark.parametrize(
    ("origin", "words", "told"),
    [
        (SECRET, [], "Set A_TOKEN: the sweep's configuration reads it, and it is not written down."),
        (Origin(searchpath=("file:///no/conf",)), [], "/no/conf, the folder with options of the sweep's, is not here"),
    ],
)
def test_what_a_recheck_lacks_is_named(tmp_path: Path, origin: Origin, words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recheck.surroundings(origin, words, {}, tmp_path)


def test_a_recheck_elsewhere_takes_what_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config-dir", "mine", "n=1"]
    env, cwd, more = recheck.surroundings(SECRET, words, {"A_TOKEN": "t", "B": "b"}, tmp_path)
    assert (env, cwd) == ({"A_TOKEN": "t", "B": "b"}, tmp_path)
    assert more == ["--config-dir", str(tmp_path / "mine"), "n=1"]
    assert f"/no/such, where the sweep's relative paths began, is not here: they begin in {tmp_path} now." in (
        capsys.readouterr().err
    )
