"""The selection of the matrix loses nothing that it promises to keep; the seeded faults still fit the code."""

import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from support.places import ROOT
from support.seeded import FAULTS, Fault
from support.selection import Case, choose

BACKENDS, WAYS, STEPS = ("local", "docker", "ome"), ("raise", "kill"), ("deploy", "bench", "teardown")

CASE = "tests/teardown/test_matrix.py::test_survives_a_kill_in"


def made(way: str, backend: str, step: str, **given: str) -> Case:
    return Case(way, backend, step, by="keeper" if way == "kill" else "trial", variant=tuple(given.items()))


CASES = [made(*words) for words in product(WAYS, BACKENDS, STEPS)]


def exercised(cases: list[Case]) -> set[object]:
    return {one for case in cases for one in case.exercises}


def test_the_chosen_exercise_what_all_do() -> None:
    cases = [*CASES, made("signal", "ome", "bench", signum="INT"), made("signal", "ome", "bench", signum="TERM")]
    assert exercised([cases[number] for number in choose(cases)]) == exercised(cases)


def test_what_knows_no_backend_is_shown_without_the_slow_ones() -> None:
    quick = [case for case in (CASES[number] for number in choose(CASES)) if case.backend == "local"]
    assert {(case.way, case.step) for case in quick} == set(product(WAYS, STEPS))


def test_not_all_are_chosen() -> None:
    cases = [made(way, backend, step) for way in ("raise", "hang", "INT") for backend in BACKENDS for step in STEPS]
    assert len(choose(cases)) == len(cases) - 2 * len(BACKENDS[1:]) * len(STEPS)


def test_the_quicker_one_is_chosen_of_two_that_exercise_as_much() -> None:
    cases = [Case("raise", backend, "record", "?", (), any_backend=True) for backend in reversed(BACKENDS)]
    assert [cases[number].backend for number in choose(cases)] == ["local"]


NEW = [made("raise", "local", "new"), made("new", "local", "bench"), made("kill", "new", "bench")]


def test_a_variant_is_tried_with_every_remover() -> None:
    """A SIGKILL of the group in a step without a keeper says nothing of one in a step with a keeper."""
    steps = {"model": None, "bench": "keeper"}
    cases = [Case("kill", "local", step, by, (("group", kind),)) for kind in "FT" for step, by in steps.items()]
    assert len(choose(cases)) == len(cases)


@pytest.mark.parametrize("new", NEW)
def test_what_is_new_is_chosen(new: Case) -> None:
    assert len(CASES) in choose([*CASES, new])


def collected(*options: str) -> list[str]:
    """What pytest says when it only collects: the node ids, and how many."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_most_of_the_slow_cases_are_deselected_and_reported_as_such() -> None:
    *ids, _, end = collected("tests/teardown/test_matrix.py")
    seen = re.match(r"(\d+)/(\d+) tests collected \((\d+) deselected\)", end)
    assert seen
    chosen, of, left_out = map(int, seen.groups())
    assert chosen + left_out == of
    for backend in BACKENDS[1:]:  # a third of the matrix each
        assert 0 < sum(f"[{backend}-" in one for one in ids) <= of / 3 / 3


def test_whoever_names_a_case_gets_it() -> None:
    assert collected(f"{CASE}[local-model-us]", f"{CASE}[docker-model-us]")[-1].startswith("2 tests collected")


def test_the_full_matrix_has_all() -> None:
    assert "deselected" not in collected("tests/teardown/test_matrix.py", "--matrix=full")[-1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_seeded_fault_fits_the_code(fault: Fault, tmp_path: Path) -> None:
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True)
    shutil.copy2(ROOT / fault.file, copy)
    fault.apply(tmp_path)
    compile(copy.read_text(), fault.file, "exec")
    assert copy.read_text() != (ROOT / fault.file).read_text()
