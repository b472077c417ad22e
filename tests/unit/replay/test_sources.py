"""Landscapes of files, of past sweeps and of our own; and what is said of files that are none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.files import SweepDir, save
from pipeline.replay import sources, synthetic, tables
from pipeline.replay.landscape import Landscape
from pipeline.replay.tables import Options
from support.records import CONFIG, make_config, make_failed_record, make_record

CSV = "n,mode,score\n1,a,1\n2,a,3\n10,a,2\n1,b,\n2,b,2.5\n10,b,4\n"


def written(folder: Path, text: str, name: str = "table.csv") -> Landscape:
    (folder / name).write_text(text)
    return tables.read(folder / name, Options())


def test_a_table_has_its_knobs_in_order_and_fails_where_there_is_no_score(tmp_path: Path) -> None:
    found = written(tmp_path, CSV)
    assert [[*one.each()] for one in found.space.dimensions] == [["1", "2", "10"], ["a", "b"]]
    assert found.space.names == ("n", "mode")
    assert found.best == 4
    failing, best = found.row({"n": "1", "mode": "b"}), found.row({"n": "10", "mode": "b"})
    assert failing is not None
    assert best is not None
    assert found.failure[failing] in {"load_failed", "server_died"}
    assert np.isnan(found.truth[failing])
    assert found.speed[best].max() == 4
    assert found.row({"n": "1", "mode": "c"}) is None
    assert found.params(best) == {"n": "10", "mode": "b"}


def test_what_a_table_does_not_say_is_drawn_alike_for_its_name(tmp_path: Path) -> None:
    one, same = written(tmp_path, CSV), written(tmp_path, CSV)
    other = written(tmp_path, CSV, "other.csv")
    assert (one.noise, one.default) == (same.noise, same.default)
    assert one.startup_s.tolist() == same.startup_s.tolist() != other.startup_s.tolist()
    assert 0.01 <= one.noise <= 0.06
    assert np.all((one.level_s > 5) & (one.level_s < 90))
    assert np.all(one.crash_s < one.startup_s + one.level_s[:, 0])


def test_a_table_may_say_its_start_ups_failures_and_defaults(tmp_path: Path) -> None:
    found = written(tmp_path, "n,score,startup_s,failure,default\n1,1,50,,0\n2,9,60,oom_gpu,0\n3,2,,,1\n")
    assert found.startup_s.tolist() == [50, 60, 55]
    assert found.failure == ("", "oom_gpu", "")
    assert found.default == 2


def test_repeats_are_one_configuration_and_tell_the_noise(tmp_path: Path) -> None:
    found = written(tmp_path, "n,score\n1,1\n2,3\n1,1.1\n1,0.9\n")
    assert len(found.truth) == 2
    assert found.truth[0] == pytest.approx(1.0)
    assert found.noise == pytest.approx(float(np.std(np.log([1, 1.1, 0.9]), ddof=1)))


def test_a_table_may_say_its_levels_with_their_times(tmp_path: Path) -> None:
    head = "n,score,startup_s,score@x1,seconds@x1,score@x8,seconds@x8,_when\n"
    rows = "1,4,10,2,3,4,5,monday\n1,6,20,2,3,6,7,tuesday\n2,3,10,3,1,,,monday\n3,,9,,,,,monday\n"
    found = written(tmp_path, head + rows)
    assert (found.space.names, found.levels) == (("n",), ("x1", "x8"))
    assert found.speed[0].tolist() == [2, 5]
    assert found.level_s[:2].tolist() == [[3, 6], [1, 6]]
    assert found.startup_s.tolist() == [15, 10, 9]
    assert np.isfinite(found.level_s).all()
    assert np.isnan(found.truth[2])


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pd.DataFrame({"n": [1, 2, 3], "score": [1.0, None, 2.0]}).to_parquet(tmp_path / "t.parquet")
    found = tables.read(tmp_path / "t.parquet", Options())
    assert [*found.picks] == [("1",), ("2",), ("3",)]
    assert [bool(kind) for kind in found.failure] == [False, True, False]


def test_an_npz_has_levels_of_its_own(tmp_path: Path) -> None:
    knobs = [{"name": "n", "values": ["1", "2"]}, {"name": "m", "values": ["a", "b"]}]
    np.savez(
        tmp_path / "t.npz", X=np.array([[0, 0], [1, 0], [1, 1]]), score=np.array([1.0, 2.0, np.nan]),
        crash=np.array([0, 0, 1]), thr=np.array([[1, 0.5], [1.5, 2], [0, 0]]), conc=np.array([1, 8]),
        lat=np.array([[0.5, 2], [0.5, 0.9], [0, 0]]), meta=np.array(json.dumps({"knobs": knobs, "source": "ours"})),
    )  # fmt: skip
    found = tables.read(tmp_path / "t.npz", Options())
    assert (found.levels, found.source) == (("x1", "x8"), "ours")
    assert found.speed[1].tolist() == [1.5, 2.0]
    assert found.latency is not None
    assert found.latency[0].tolist() == [0.5, 2.0]


def test_a_past_sweep_has_its_own_times_and_failures(tmp_path: Path) -> None:
    base = make_record(number=0, overrides=("page_size=null",), is_baseline=True)
    better = make_record(number=1, overrides=("page_size=32",), objective={"output_tokens_per_s": 300.0})
    failed = make_failed_record(number=2, overrides=("page_size=64",))
    again = make_record(
        number=3, overrides=("page_size=32", "repeat_of=1", "phase=confirm"), repeat_of=1, phase="confirm",
        objective={"output_tokens_per_s": 330.0},
    )  # fmt: skip
    for record in (base, better, failed, again):
        SweepDir(tmp_path).trial(record.number).path.mkdir()
        save(SweepDir(tmp_path).trial(record.number).record, record)
    (source,) = sources.found([str(tmp_path)])
    found = sources.opened(source, Options())
    assert found.kind == "sweep"
    assert [*found.picks] == [("null",), ("32",), ("64",)]
    assert found.truth[:2].tolist() == [150.0, 315.0]
    assert found.failure == ("", "", "server_died")
    assert found.default == 0
    assert found.levels == ("D(64,16) x1", "D(64,16) x2")
    assert found.speed[0].tolist() == [100.0, 150.0]
    assert found.noise == pytest.approx(np.log(1.1) / np.sqrt(2))


def test_a_past_sweep_whose_trials_chose_their_levels_is_refused(tmp_path: Path) -> None:
    record = make_record(config=make_config(traffic={**CONFIG["traffic"], "levels": "capacity"}))
    SweepDir(tmp_path).trial(0).path.mkdir()
    save(SweepDir(tmp_path).trial(0).record, record)
    (source,) = sources.found([str(tmp_path)])
    with pytest.raises(ConfigError, match="each trial chose its own levels"):
        sources.opened(source, Options())


def test_a_past_sweep_of_loads_is_refused(tmp_path: Path) -> None:
    for number, load in enumerate(("chat", "smoke")):
        record = make_record(number=number, overrides=("page_size=null", f"traffic={load}"))
        SweepDir(tmp_path).trial(number).path.mkdir()
        save(SweepDir(tmp_path).trial(number).record, record)
    (source,) = sources.found([str(tmp_path)])
    with pytest.raises(ConfigError, match="differ in traffic: no scores to compare"):
        sources.opened(source, Options())


@pytest.mark.parametrize("name", synthetic.names())
def test_a_made_up_landscape_has_an_optimum_and_regions_that_fail(name: str) -> None:
    found, recipe = synthetic.made(name, Options()), synthetic.RECIPES[name]
    assert found.crash_share == pytest.approx(recipe.crash_share, abs=0.09)
    assert (found.crash_share == 0) == (recipe.crash_share == 0)
    assert found.truth[found.default] < 0.95 * found.best
    assert np.mean(found.truth >= 0.95 * found.best) < 0.02
    inside = found.speed if found.latency is None else np.where(found.latency <= 1, found.speed, 0)
    fine = np.isfinite(found.truth)
    assert inside[fine].max(axis=1) == pytest.approx(found.truth[fine])


def test_the_default_can_be_put_near_the_best() -> None:
    found = synthetic.made("small", Options(default_at=0.97))
    assert found.truth[found.default] / found.best == pytest.approx(0.97, abs=0.01)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("n,speed\n1,2\n2,3\n", "has no column score. Its columns: n, speed. Name the score's with --score."),
        ("n,score\n1,\n2,\n", "every score is missing"),
        ("n,score\n1,2\n", "has a single configuration: there is nothing to search"),
        ("n,score,score@1,score@8,seconds@8\n1,2,1,2,3\n2,1,1,1,1\n", "there is no column seconds@1"),
        ("n,score\n1,1\n1,2\n", "has a single configuration"),
        ("score\n1\n2\n", "has a single configuration"),
        ("n,score\n", "has no rows"),
        ("", "cannot be read: No columns to parse from file"),
        ("n,score\n1,-2\n2,-1\n", "scores from -2 to -1. Expected numbers above 0"),
        ("n,score\n1,fast\n2,3\n", "cannot be read: column score: could not convert string to float: 'fast'"),
        ("n,score\n1,inf\n2,3\n", "cannot be read: column score: inf: expected finite numbers"),
        ("n,score,default\n1,2,1\n2,3,1\n", "cannot be read: column default: 2 rows have a 1: expected one"),
    ],
)
def test_what_is_no_table_is_refused_with_what_was_expected(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        written(tmp_path, text)
    assert told in str(error.value)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "x.npz").write_text("no archive")
    for word, told in {
        str(tmp_path / "a"): "holds neither trials",
        str(tmp_path / "b.csv"): "no such file or folder",
        str(tmp_path / "x.txt"): "expected a file ending in .npz, .csv, .parquet",
        "synthetic:mo": "Did you mean moe?",
    }.items():
        with pytest.raises(ConfigError, match=told):
            sources.found([word])
    with pytest.raises(ConfigError, match="cannot be read"):
        tables.read(tmp_path / "x.npz", Options())


def test_two_landscapes_cannot_have_one_name(tmp_path: Path) -> None:
    for suffix in ("npz", "csv"):
        (tmp_path / f"t.{suffix}").write_text("")
    with pytest.raises(ConfigError, match="Two landscapes are called t"):
        sources.found([str(tmp_path)])
