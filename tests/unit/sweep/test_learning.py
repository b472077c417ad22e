"""Earlier sweeps by their folders: what is read, refused, said and agreed on; and a search that learns from one."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import command_line
from pipeline.core.errors import ConfigError
from pipeline.core.files import RunDir, save
from pipeline.core.record import Record
from pipeline.sweep import learning, tuner
from pipeline.sweep.search import agreement
from pipeline.sweep.search.agreement import LEARNS
from pipeline.sweep.search.space import Choice, Space
from pipeline.sweep.search.strategy.earlier import Prior
from support import forked
from support.answers import BROKEN, WELL, base, trial
from support.cli import Result, command, stub_overrides
from support.places import TESTS
from support.records import CONFIG, make_config
from support.two_sweeps import Scores, sweep

PAGES = Choice(name="page_size", values=("null", "16", "32", "64"))
SPACE = Space(dimensions=(PAGES,))
SCORES: Scores = {None: [100.0], 16: [80.0], 32: [150.0], 64: [None]}
TUNER = "hydra/sweeper=tuner"


def written(folder: Path, records: list[Record]) -> str:
    for one in records:
        run_dir = RunDir(folder / str(one.number))
        run_dir.path.mkdir(parents=True)
        save(run_dir.record, one)
    return str(folder)


def test_a_sweep_is_read_with_what_failed_and_said_in_a_line(tmp_path: Path) -> None:
    old = written(tmp_path / "old", sweep("old", SCORES, [(150.0, 101.0)], of=32))
    found = learning.read([old], SPACE, make_config())
    (one,) = found.earlier
    assert [(trial.params["page_size"], trial.values, trial.is_crash) for trial in one.trials] == [
        ("null", (100.0,), False), ("16", (80.0,), False), ("32", (150.0,), False), ("64", (), True),
        ("32", (150.0,), False), ("null", (101.0,), False),
    ]  # fmt: skip
    assert (one.baseline.params["page_size"], one.varied) == ("null", ("page_size",))
    told = "5 results and 1 failures over page_size (tiny on cpu, traffic quick)."
    assert found.said == (f"Learns from {old}: {told}",)
    assert found.agreed[0].startswith(f"{tmp_path}/old ")


def test_nothing_good_is_learned_of_what_answered_so_badly_that_it_could_not_win(tmp_path: Path) -> None:
    again = trial(4, 300.0, None, 32, repeat_of=1)
    records = [base(), trial(1, 300.0, BROKEN), trial(2, 150.0, WELL, 16), trial(3, 90.0, None, 64), again]
    (one,) = learning.read([written(tmp_path / "old", records)], SPACE, make_config()).earlier
    assert [(seen.params["page_size"], seen.is_feasible, seen.outside) for seen in one.trials] == [
        ("null", True, None), ("32", False, 0.0), ("16", True, None), ("64", True, None), ("32", False, 0.0),
    ]  # fmt: skip
    prior = Prior([one], SPACE)
    prior.know({})
    assert prior.best(1)[0]["page_size"] == "16"


def test_scores_of_another_objective_are_worked_out_again(tmp_path: Path) -> None:
    old = written(tmp_path / "old", sweep("old", SCORES, config={"objective": ["ttft_p95_s"]}))
    (one,) = learning.read([old], SPACE, make_config()).earlier
    assert {trial.values for trial in one.measured} == {(150.0,)}  # the better of two levels


def refused(words: list[str], space: Space = SPACE, **changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        learning.read(words, space, make_config(**changes))
    return str(caught.value)


def test_what_is_no_sweep_is_refused_in_one_sentence(tmp_path: Path) -> None:
    old = written(tmp_path / "old", sweep("old", SCORES))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad" / "0").mkdir(parents=True)
    (tmp_path / "bad" / "0" / "record.json").write_text("{")
    assert "/nowhere is no folder. Expected the folder of a sweep" in refused(["/nowhere"])
    assert "/empty holds no trials (*/record.json)." in refused([old, f"{tmp_path}/empty"])
    assert "bad/0/record.json cannot be read: it is damaged" in refused([f"{tmp_path}/bad"])
    assert "old/ twice." in refused([old, f"{old}/"])
    copy = shutil.copytree(old, tmp_path / "copy")
    assert "/copy is a copy of " in refused([old, f"{copy}"])
    assert "needs a single objective" in refused([old], objective=["ttft_p95_s", "output_tokens_per_s"])


def test_a_sweep_without_a_baseline_that_was_measured_is_refused(tmp_path: Path) -> None:
    scores: Scores = {16: [80.0], 32: [150.0], 64: [90.0]}
    assert "has no baseline with a result of output_tokens_per_s" in refused(
        [written(tmp_path / "none", sweep("none", scores))]
    )
    assert "has no baseline with a result" in refused(
        [written(tmp_path / "died", sweep("died", {None: [None], **scores}))]
    )


def test_sweeps_with_nothing_in_common_are_left_out_and_refused_if_all_are(tmp_path: Path) -> None:
    old = written(tmp_path / "old", sweep("old", SCORES))
    other = written(tmp_path / "few", sweep("few", {None: [100.0], 16: [80.0]}))
    told = "it varied page_size, and nothing of what is searched here (slots)."
    assert f"there is nothing to learn. {old}: {told}" in refused(
        [old], Space(dimensions=(replace(PAGES, name="slots"),))
    )
    found = learning.read([other, old], SPACE, make_config())
    assert found.said[0] == f"Learns nothing from {other}: 2 configurations have a result, and it takes 3."
    assert [one.name for one in found.earlier] == [old]
    assert len(found.agreed) == 2
    engine = {**CONFIG["runtime"], "name": "vllm"}
    assert "a sweep of llamacpp, and this one is of vllm" in refused([old], runtime=engine)


def told(*learns: str) -> agreement.Told:
    return agreement.of(SPACE, ["maximize"], learns, ["a=1"])


@pytest.mark.parametrize(
    ("had", "has", "expected"),
    [
        ((), ("/o/a 1f",), "started without 'hydra.sweeper.learn_from=[/o/a]'."),
        (("/o/a 1f",), (), "started with 'hydra.sweeper.learn_from=[/o/a]', which this command lacks."),
        (("/o/a 1f",), ("/o/b 1f",), "where this command has 'hydra.sweeper.learn_from=[/o/b]'."),
        (("/o/a 1f", "/o/b 2f"), ("/o/a 1f", "/o/b 3f"), "The records in /o/b, from which it learns, have changed"),
    ],
)
def test_a_search_is_gone_on_with_by_what_knows_the_same_sweeps(
    had: tuple[str, ...], has: tuple[str, ...], expected: str
) -> None:
    agreement.check(told(*had), told(*had))
    with pytest.raises(ConfigError) as caught:
        agreement.check(told(*had), told(*has))
    assert expected in str(caught.value)


def test_a_study_of_before_knew_no_earlier_sweeps() -> None:
    import optuna

    study = optuna.create_study()
    for name, one in told().items():
        if name != LEARNS:
            study.set_user_attr(name, one)
    agreement.reach(study, told())
    other = optuna.create_study()
    for name, one in told().items():
        if name != LEARNS:
            other.set_user_attr(name, one)
    with pytest.raises(ConfigError, match="started without"):
        agreement.reach(other, told("/o/a 1f"))


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Iterator[Run]:
    root = tmp_path_factory.mktemp("outputs")

    def go(name: str, *overrides: str) -> Result:
        folder = root / name
        own = [TUNER, "hydra.sweeper.confirm=0", "hydra.sweeper.sampler.seed=1"]
        argv = [*command(sweep=True), *stub_overrides(folder, tiny_gguf), *own, *overrides]
        done = forked.run(argv, env={**os.environ, "STUB_BENCH_RATE": "slots"}, timeout_s=240)
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, folder=folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVETUNE_TESTS", str(TESTS))
        for name in ("STATE", "CACHE", "SLOTS"):
            patch.setenv(f"SERVETUNE_{name}_DIR", str(root / name))
        yield go


@pytest.fixture(scope="module")
def old(run: Run) -> Path:
    """A sweep of four configurations; more slots are faster."""
    found = run("old", "parallel=null,2,4,8")
    assert found.code == 0, found.err
    return found.folder


def test_a_search_tries_what_was_best_before_and_ranks_its_own_trials_alone(run: Run, old: Path) -> None:
    words = ("parallel=null,1,2,3,5,6,8,9", "hydra.sweeper.n_trials=3", f"hydra.sweeper.learn_from=[{old}]")
    shown = run("new", *words, "dry_run=true")
    line = f"Learns from {old}: 4 results over parallel (gguf on "
    assert line in shown.out
    assert shown.code == 0
    assert not shown.folder.exists()
    found = run("new", *words)
    assert found.code == 0, found.err
    assert line in found.err
    assert found.records[0].is_baseline
    assert found.records[1].config.knobs["parallel"] in {8, 9}  # 8 was the best there, and more slots are faster
    assert found.records[1].reason
    assert found.records[1].reason.words.endswith("100% of it by earlier sweeps")
    assert len(found.records) == 3
    again = run("new", *words[:2])
    assert again.code == 2
    assert f"It was started with 'hydra.sweeper.learn_from=[{old}]', which this command lacks." in again.err


def test_what_nothing_is_chosen_by_is_said(old: Path, checked: Callable[..., tuple[str, ...]]) -> None:
    learned, every = checked("parallel=null,2", f"hydra.sweeper.learn_from={old}")
    assert learned.startswith("Learns from ")
    assert every.startswith("hydra.sweeper.learn_from changes nothing here, because every combination is run")
    assert checked("parallel=null,2", "hydra/sweeper=basic") == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("hydra.sweeper.learn_from=OLD", "hydra/sweeper/sampler=tpe"), "needs hydra/sweeper/sampler=servetune"),
        (("hydra.sweeper.learn_from=[3]",), "hydra.sweeper.learn_from=3 should be a valid string"),
        (("hydra.sweeper.learn_from=OLD", "hydra.sweep.dir=OLD"), "the folder of this sweep"),
        (("hydra.sweeper.learn_from=OLD", "load_s=0,0.1", "parallel=2"), "there is nothing to learn"),
        (("hydra.sweeper.learn_from=OLD", "runtime=stub,llamacpp"), "of one engine, seen stub, llamacpp"),
    ],
    ids=["sampler", "number", "own", "nothing", "engines"],
)
def test_what_cannot_be_learned_from_is_refused(
    words: tuple[str, ...], told: str, old: Path, checked: Callable[..., tuple[str, ...]]
) -> None:
    swept = "stub.parallel=null,2" if "runtime=stub,llamacpp" in words else "parallel=null,2"
    with pytest.raises(ConfigError) as caught:
        checked(swept, *(word.replace("OLD", str(old)) for word in words))
    assert told in str(caught.value)


@pytest.fixture
def checked(tmp_path: Path, tiny_gguf: Path) -> Callable[..., tuple[str, ...]]:
    """What is said of a command before it begins."""

    def check(*words: str) -> tuple[str, ...]:
        given = {word.partition("=")[0]: word for word in (*stub_overrides(tmp_path / "new", tiny_gguf), TUNER, *words)}
        return command_line.check([*given.values()], is_sweep=True, search=tuner.check).learned

    return check
