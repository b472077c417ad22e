"""Hosts that share a database and no folder: one search, one baseline, one winner; on a real PostgreSQL."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from parts import postgres
from pipeline.core.record import Record
from pipeline.machine import process
from support.cli import Result, command, stub_overrides

Needs = Callable[..., None]
WORDS = ("hydra/sweeper=tuner", "parallel=1,2,3,4,6,8")


@pytest.fixture(scope="module")
def database(needs: Needs) -> Iterator[str]:
    needs("psycopg")
    with postgres.running() as url:
        yield url


class Host:
    """A process with a folder of its own; under a host's name of its own, where that may be played."""

    def __init__(self, folder: Path, url: str, gguf: Path, *words: str, name: str | None = None, **env: str) -> None:
        (folder / "locks").mkdir(parents=True)
        self.folder = folder / "out"
        own = {"STUDY_URL": url, "STUB_BENCH_RATE": "slots", "SERVETUNE_SLOTS_DIR": str(folder / "locks"), **env}
        apart = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"] if name else []
        storage = "hydra.sweeper.storage=${oc.env:STUDY_URL}"
        self.child = subprocess.Popen(
            [*apart, *command(sweep=True), *stub_overrides(self.folder, gguf), *WORDS, storage, *words],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self) -> Result:
        out, err = self.child.communicate(timeout=400)
        return Result(code=self.child.returncode, out=out, err=err, folder=self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()


def host_of(record: Record) -> str:
    return record.place.split()[0]


def of_search(record: Record) -> bool:
    return record.phase == "search"


def test_two_hosts_start_together_and_agree(database: str, tmp_path: Path, tiny_gguf: Path) -> None:
    names = ("here", "there") if os.geteuid() == 0 else (None, None)
    words = ("hydra.sweeper.study_name=agree", "hydra.sweeper.confirm=3")
    with ExitStack() as stack:
        hosts = [
            stack.enter_context(Host(tmp_path / str(at), database, tiny_gguf, *words, name=name))
            for at, name in enumerate(names)
        ]
        one, other = (host.end() for host in hosts)
    assert (one.code, other.code) == (0, 0), (one.err, other.err)
    told = [{record.number: (record.overrides, record.objective) for record in each.records} for each in (one, other)]
    assert told[0] == told[1]
    searched = [record.overrides[-1] for record in one.records if of_search(record)]
    assert sorted(searched) == sorted(f"parallel={pick}" for pick in ("null", "1", "2", "3", "4", "6", "8"))
    assert [record.is_baseline for record in one.records if of_search(record)].count(True) == 1
    assert len({host_of(record) for record in one.records if not of_search(record)}) == 1
    assert len({host_of(record) for record in one.records if of_search(record)}) == len({*names})
    verdicts = [re.findall(r"^Trial \d+ against the baseline.*$", each.out, re.MULTILINE) for each in (one, other)]
    assert verdicts[0] == verdicts[1] != []


def test_a_host_that_is_lost_leaves_its_trial_to_the_other(database: str, tmp_path: Path, tiny_gguf: Path) -> None:
    """Both under one name, so that its end is seen at once: another host is waited for, for five minutes."""
    words = ("hydra.sweeper.study_name=lost", "hydra.sweeper.confirm=0")
    env = {"STUB_BENCH": "hang", "STUB_BENCH_AT": "4"}
    with Host(tmp_path / "0", database, tiny_gguf, *words, **env) as lost:
        assert process.wait_until((lost.folder / "0" / "bench").exists, timeout_s=180)
        with Host(tmp_path / "1", database, tiny_gguf, *words) as other:
            assert other.child.stderr is not None
            assert "Waits for another process" in other.child.stderr.readline()
            lost.child.kill()
            result = other.end()
    assert result.code == 0, result.err
    assert [record.number for record in result.records] == [*range(7)]
    assert {record.status for record in result.records} == {"ok"}


def test_a_database_that_is_gone_is_told_in_a_line(database: str, tmp_path: Path, tiny_gguf: Path) -> None:
    with Host(tmp_path, database.replace("127.0.0.1", "127.0.0.2"), tiny_gguf, "hydra.sweeper.study_name=x") as host:
        result = host.end()
    assert result.code == 2
    assert "hydra.sweeper.storage cannot be opened: OperationalError" in result.err
    assert "Traceback" not in result.err
