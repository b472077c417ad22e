"""Sweeps beside each other: what can be compared, what is shown, and what is only claimed where intervals show it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from pipeline.core.record import Level, Record, StepTiming
from pipeline.report import comparison, comparison_text
from pipeline.report.compared import Source
from pipeline.report.comparison import Beside, Change, Pair
from support.records import CONFIG, make_metrics
from support.two_sweeps import NAME, sweep

BETTER = ((120.0, 100.0), (118.0, 99.0), (122.0, 101.0))
MUCH_BETTER = ((150.0, 100.0), (148.0, 99.0), (152.0, 101.0))
SEARCHED = {None: [100.0], 32: [125.0], 64: [110.0]}


def beside(*sweeps: Sequence[Record], **how: Any) -> Beside:
    sources = [Source(folder=f"outputs/{at}", records=tuple(records)) for at, records in enumerate(sweeps)]
    return comparison.of(sources, **how)


def text(found: Beside, width: int | None = None) -> str:
    return "\n".join(line.text for line in comparison_text.lines(found, width))


def confirmed(name: str, rounds: Sequence[tuple[float, float]] = BETTER, **more: Any) -> list[Record]:
    return sweep(name, SEARCHED, rounds, of=32, **more)


def only(found: Beside) -> Pair:
    (pair,) = found.pairs
    return pair


def first(changes: Sequence[Change]) -> Change:
    (change,) = changes
    return change


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {section: {**CONFIG[section], **values}}


def test_the_same_sweep_twice_shows_no_difference() -> None:
    again = ((119.0, 100.5), (121.0, 99.5), (120.5, 100.0))
    found = beside(confirmed("a"), confirmed("b", again, day=8))
    pair = only(found)
    assert [first(pair.recommended).verdict, first(pair.baseline).verdict] == ["no difference shown"] * 2
    assert (pair.in_both, pair.only_here, pair.only_there) == (3, 0, 0)
    assert found.differences == ()
    assert "The sweeps have the same settings, and ran on the same machine." in text(found)
    assert "B against A, recommended: no difference shown (" in text(found)


def test_a_difference_that_the_rounds_show_is_named_with_its_interval() -> None:
    found = beside(confirmed("a"), confirmed("b", MUCH_BETTER))
    seen = first(only(found).recommended)
    assert seen.verdict == "better"
    assert seen.change == pytest.approx(0.25, abs=0.001)
    assert seen.low is not None
    assert 0.15 < seen.low < 0.25
    assert "B against A, recommended: better by 25.0% [" in text(found)


def test_less_of_a_latency_is_better() -> None:
    latency = {"objective": ["ttft_p95_s"]}
    rounds, quicker = [(0.5, 0.6), (0.51, 0.61), (0.49, 0.6)], [(0.25, 0.6), (0.26, 0.61), (0.24, 0.6)]
    searched = {None: [0.6], 32: [0.5]}
    found = beside(
        *(sweep(name, searched, some, of=32, config=latency) for name, some in (("a", rounds), ("b", quicker)))
    )
    seen = first(only(found).recommended)
    assert seen.verdict == "better"
    assert seen.change == pytest.approx(-0.5, abs=0.01)
    ends = [end for end in (seen.low, seen.change, seen.high, 0) if end is not None]
    assert (ends, len(ends)) == (sorted(ends), 4)  # of the objective, as the change
    assert "recommended: better by 50.0% [" in text(found)


def test_what_was_measured_once_shows_nothing() -> None:
    found = beside(sweep("a", SEARCHED), sweep("b", {None: [100.0], 32: [250.0]}))
    assert [first(only(found).recommended).verdict, first(only(found).baseline).verdict] == ["once", "once"]
    assert "B against A, recommended: +100.0% (once)." in text(found)
    assert "(once): too few measurements to show a difference" in text(found)


def test_a_choice_that_no_round_confirmed_shows_nothing() -> None:
    found = beside(
        sweep("a", {None: [100, 101, 99], 32: [120, 121, 119]}), sweep("b", {None: [100, 101], 32: [150, 151]})
    )
    assert first(only(found).recommended).verdict == "by the search"
    assert first(only(found).baseline).verdict == "no difference shown"
    assert "B against A, recommended: +25.4% (by the search)." in text(found)


def test_one_configuration_that_nobody_chose_can_be_shown_to_differ() -> None:
    found = beside(sweep("a", {32: [100.0, 101.0, 99.0]}), sweep("b", {32: [150.0, 151.0, 149.0]}))
    assert first(only(found).recommended).verdict == "better"
    assert only(found).baseline[0].why == "both have none with a result"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"objective": ["requests_per_s"]}, "objective (output_tokens_per_s | requests_per_s)"),
        (changed("traffic", concurrencies=[1, 4]), "traffic.concurrencies ([1, 2] | [1, 4])"),
        (changed("traffic", scenarios=["D(9,9)"]), "traffic.scenarios ([D(64,16)] | [D(9,9)])"),
        (changed("slo", name="tight", ttft_s=1.0), "slo.ttft_s (- | 1.0)"),
        (changed("model", path="/other/big.gguf"), "model (tiny.gguf | big.gguf)"),
    ],
    ids=["objective", "levels", "prompts", "SLO", "model"],
)
def test_scores_of_different_things_are_not_compared(config: dict[str, Any], named: str) -> None:
    found = beside(confirmed("a"), confirmed("b", MUCH_BETTER, config=config))
    assert not found.is_comparable
    assert (only(found).recommended, only(found).baseline, found.configurations) == ((), (), ())
    assert f"The scores of B and A cannot be compared: they differ in {named}" in text(found)
    assert "B against A" not in text(found)


@pytest.mark.parametrize(
    "config",
    [
        changed("traffic", name="other", seed=7, order="busiest_first", warmup_requests=9),
        changed("slo", name="any", attainment=0.5),  # nothing is to be attained
        changed("model", path="/mnt/elsewhere/tiny.gguf", served_name="t"),
        changed("timeouts", deploy_s=99),
    ],
    ids=["traffic", "SLO", "model", "deadlines"],
)
def test_names_and_places_keep_nothing_from_being_compared(config: dict[str, Any]) -> None:
    found = beside(confirmed("a"), confirmed("b", config=config))
    assert found.is_comparable
    assert only(found).in_both == 3


def test_one_model_in_two_formats_is_compared_if_asked() -> None:
    other = confirmed("b", MUCH_BETTER, config=changed("model", path=None, repo="org/tiny"))
    assert "If it is one model in two formats: --any-model." in text(beside(confirmed("a"), other))
    found = beside(confirmed("a"), other, any_model=True)
    assert first(only(found).recommended).verdict == "better"
    assert only(found).in_both == 3
    assert ("model", ("tiny.gguf", "org/tiny")) in [(one.name, one.values) for one in found.differences]


def test_versions_machines_and_knobs_that_differ_are_named() -> None:
    here = sweep("a", {None: [100.0], 32: [120.0]}, engine_version="0.5.22")
    there = sweep("b", {None: [100.0], 64: [120.0]}, engine_version="0.5.23", environment={"host": "node-2"})
    found = {one.name: one.values for one in beside(here, there).differences}
    assert found == {
        "engine": ("llamacpp 0.5.22", "llamacpp 0.5.23"),
        "page_size": ("default, 32", "default, 64"),
        "host": ("node-1", "node-2"),
    }


def test_many_values_of_a_knob_are_summed_up() -> None:
    here, there = sweep("a", {size: [1.0] for size in (None, 1, 2, 10, 4, 8)}), sweep("b", {None: [1.0]})
    (found,) = beside(here, there).differences
    assert found.values == ("6 values, default to 10", "default")


def test_another_engine_is_told_without_all_of_its_settings() -> None:
    runtime = {**CONFIG["runtime"], "name": "vllm", "command": ["vllm"], "stop_grace_s": 9, "server_engine": "SGLang"}
    found = beside(confirmed("a"), confirmed("b", config={"runtime": runtime}))
    assert [one.name for one in found.differences] == ["engine"]
    assert only(found).in_both == 3  # the same values of the same knobs


def test_trials_of_several_engines_are_held_against_the_same_engine() -> None:
    vllm = {"runtime": {**CONFIG["runtime"], "name": "vllm"}}
    more = [replace(one, number=one.number + 9) for one in sweep("x", {None: [200.0]}, config=vllm)]
    found = beside([*sweep("a", {None: [100.0]}), *more], sweep("b", {None: [201.0]}, config=vllm))
    (row,) = found.configurations
    assert [cell.trial for cell in row.cells if cell] == [9, 0]
    assert row.overrides == ("runtime.name=vllm",)
    assert only(found).only_there == 1


def test_configurations_are_matched_by_their_knobs_whatever_their_numbers() -> None:
    found = beside(
        sweep("a", {None: [100.0], 32: [120.0], 16: [90.0]}), sweep("b", {32: [126.0], None: [100.0], 8: [1.0]})
    )
    rows = {row.overrides: [first(some).change for some in row.changes] for row in found.configurations}
    assert rows == {("page_size=32",): [pytest.approx(0.05)], (): [pytest.approx(0.0)]}
    pair = only(found)
    assert (pair.in_both, pair.only_there, pair.only_here) == (2, 1, 1)
    assert "2 configurations in both, 1 only in A, 1 only in B; of those 2 (once)." in text(found)


def test_what_only_one_of_them_can_run_comes_first() -> None:
    found = beside(
        sweep("a", {None: [100.0], 32: [120.0], 16: [90.0]}), sweep("b", {None: [190.0], 32: [120.0], 16: [None]})
    )
    assert [row.overrides for row in found.configurations] == [("page_size=16",), (), ("page_size=32",)]
    lines = text(found).splitlines()
    (line,) = (line for line in lines if line.endswith("page_size=16"))
    assert line.split() == ["90", "server_died", "page_size=16"]


def test_what_failed_in_both_is_counted_alone() -> None:
    found = beside(sweep("a", {None: [100.0], 16: [None]}), sweep("b", {None: [100.0], 16: [None]}))
    assert [row.overrides for row in found.configurations] == [()]
    assert only(found).in_both == 2


def test_what_misses_the_slo_has_no_change() -> None:
    slo = changed("slo", ttft_s=1.0)
    here = sweep("a", {None: [100.0], 32: [120.0]}, config=slo)
    there = [
        replace(one, best_level=None) if one.number else one
        for one in sweep("b", {None: [99.0], 32: [0.0]}, config=slo)
    ]
    row = next(row for row in beside(here, there).configurations if row.overrides)
    assert [cell.ended for cell in row.cells if cell] == [None, "missed the SLO"]
    assert first(row.changes[0]).why == "B missed the SLO"


def test_the_intervals_of_the_table_hold_together() -> None:
    """Each alone would show a difference, as one in twenty does by luck."""
    apart = {None: ([100.0, 101.0, 99.0], [103.0, 104.5, 102.8])}
    many = apart | {size: ([100.0, 101.0, 99.0], [100.1, 101.0, 99.2]) for size in range(1, 20)}
    for scores, verdict in ((apart, "better"), (many, "no difference shown")):
        a, b = ({size: two[at] for size, two in scores.items()} for at in (0, 1))
        found = beside(sweep("a", a), sweep("b", b))
        row = next(row for row in found.configurations if row.overrides == ())
        assert (first(row.changes[0]).verdict, found.together) == (verdict, len(scores))
    assert "The 20 intervals of this table are wider than one alone" in text(found)


def test_what_the_cache_gave_to_both_is_no_second_measurement() -> None:
    here = sweep("a", {None: [100.0], 32: [120.0]})
    there = [replace(one, trial_id=f"b/{one.number}", cached_from=one.trial_id) for one in here]
    found = beside(here, there)
    assert only(found).recommended[0].why == "one measurement, which the cache gave to both"


def test_a_twin_is_shown_by_what_the_engine_runs_it_as() -> None:
    def twins(name: str) -> list[Record]:
        return [replace(one, same_as=1) if one.number == 2 else one for one in sweep(name, SEARCHED)]

    assert [row.overrides for row in beside(twins("a"), twins("b")).configurations] == [(), ("page_size=32",)]
    assert len(beside(twins("a"), sweep("b", SEARCHED)).configurations) == 3


def test_each_sweep_is_told_in_short() -> None:
    step = StepTiming(step="bench", seconds=1800, status="ok")
    hardware = {"name": "h100", "gpu_count": 8}
    records = confirmed("a", config={"hardware": hardware}, steps=(step,))
    said = text(beside(records, confirmed("b", config={"hardware": hardware})))
    names = ("hardware", "GPUs", "traffic", "trials", "GPU-hours", "its score", "baseline score")
    assert [" ".join(line.split()) for line in said.splitlines() if line.startswith(names)] == [
        "hardware 8 x h100",
        "GPUs per trial 8",
        "traffic quick: D(64,16) x 1, 2 users",
        "trials 9 ok 9 ok",
        "GPU-hours 36.00 0.00",
        "its score 120 [115, 125], 3 rounds 120 [115, 125], 3 rounds",
        "baseline score 100 [97.52, 102.5], 3 rounds 100 [97.52, 102.5], 3 rounds",
    ]
    assert "A: Trial 1 against the baseline, by 3 alternating rounds: better by 20.0% [" in said


def test_how_many_users_fit_is_told() -> None:
    config = changed("traffic", levels="capacity") | changed("slo", ttft_s=1.0)
    levels = tuple(
        Level(scenario="D(64,16)", concurrency=users, status="ok", metrics=make_metrics(meets_slo=users < 8))
        for users in (4, 8)
    )
    records = sweep("a", {32: [100.0]}, config=config, levels=levels, best_level="D(64,16) x4")
    found = beside(records, sweep("b", {32: [110.0]}, config=config, levels=levels, best_level="D(64,16) x4"))
    assert [one.recommended.capacity for one in found.sweeps if one.recommended] == ["4 [4, 8]", "4 [4, 8]"]
    assert "its users" in text(found)


def test_a_sweep_without_a_result_is_told_and_compared_with_nothing() -> None:
    found = beside(confirmed("a"), sweep("b", {None: [None], 32: [None]}))
    assert found.is_comparable
    assert first(only(found).recommended).why == "B has none with a result"
    assert "B: No trial has a result." in text(found)


def test_baselines_that_both_recommend_are_told_once() -> None:
    found = beside(sweep("a", {None: [100.0], 32: [90.0]}), sweep("b", {None: [101.0], 32: [91.0]}))
    said = [line for line in text(found).splitlines() if line.startswith("B against A, ")]
    assert said == ["B against A, recommended by both, the baseline: +1.0% (once)."]


def test_several_sweeps_are_held_against_the_first() -> None:
    found = beside(
        confirmed("a"), confirmed("b", MUCH_BETTER), confirmed("c", config={"objective": ["requests_per_s"]})
    )
    assert [(pair.sweep, pair.against, pair.is_comparable) for pair in found.pairs] == [
        ("B", "A", True),
        ("C", "A", False),
    ]
    assert all(row.cells[2] is None for row in found.configurations)
    told = text(found).splitlines()
    assert [line for line in told if line.startswith("B against A, recommended: better by 25.0% [")]
    assert [line for line in told if line.startswith("The scores of C and A cannot be compared")]


def test_several_objectives_have_a_change_each() -> None:
    config = {"objective": [NAME, "requests_per_s"]}
    found = beside(confirmed("a", config=config), confirmed("b", config=config))
    assert [one.objective for one in only(found).recommended] == [NAME, "requests_per_s"]
    said = text(found)
    assert "Configurations that both sweeps ran: output tokens/s (--json has the other objectives)" in said
    assert "B against A, baseline, requests/s: no difference shown (" in said
    assert "its score, requests/s" in said


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("count", [2, 3])
def test_tables_fit_the_terminal(width: int, count: int) -> None:
    config = changed("model", path="/a/very/long/folder/of/models/" + "大" * 40 + ".gguf")
    found = beside(*(confirmed(f"s{at}", config=config if at == 0 else None) for at in range(count)), any_model=True)
    sentences = ("A:", "B:", "C:", "B against", "C against", "95% intervals", "The ", "Short names", "Configurations")
    tables = [line.text for line in comparison_text.lines(found, width) if not line.text.startswith(sentences)]
    assert [line for line in tables if cell_len(line) > width] == []
    assert "".join(tables).count("大") == 40 * 2  # as a model, and as what differs: all of it


def test_the_engine_is_named_where_a_sweep_has_several() -> None:
    """`page_size=32` of one engine is not that of another."""
    mine = sweep("b", {32: [150.0]})
    runtime = replace(mine[0].config.runtime, name="other")
    others = [replace(one, number=100 + one.number, config=replace(one.config, runtime=runtime)) for one in mine]
    worse = [replace(one, objective=dict.fromkeys(one.objective or {}, 1.0)) for one in others]
    said = text(beside(sweep("a", {32: [100.0]}), [*mine, *worse]), 200)
    assert f"{mine[0].config.runtime.name}, page_size=32" in said


def engines(name: str, scores: dict[str, float | None], best: dict[str, float]) -> list[Record]:
    """A baseline of each engine, and something better than it."""
    made: list[Record] = []
    for engine, score in scores.items():
        config = {"runtime": {**CONFIG["runtime"], "name": engine}}
        some = sweep(f"{name}-{engine}", {None: [score], 32: [best[engine]]}, config=config)
        words = (f"runtime={engine}",)
        made += [replace(one, number=len(made) + one.number, overrides=(*words, *one.overrides)) for one in some]
    return made


def test_baselines_of_several_engines_are_held_against_those_of_the_same_engine() -> None:
    """Though another engine is recommended, and though the one that is has none."""
    a = engines("a", {"sglang": 100.0, "vllm": 200.0}, {"sglang": 300.0, "vllm": 250.0})
    b = engines("b", {"sglang": None, "vllm": 210.0}, {"sglang": 240.0, "vllm": 400.0})
    found = beside(a, b)
    assert [(one.engine, one.why) for one in only(found).baseline] == [
        ("sglang", "B has none with a result"),
        ("vllm", None),
    ]
    assert only(found).baseline[1].change == pytest.approx(0.05)
    said = text(found, 200)
    assert "B against A, baseline of vllm: +5.0% (once)." in said
    assert re.search(
        r"^baseline score of vllm +200 \(once\), by the search +210 \(once\), by the search$", said, re.MULTILINE
    )


def test_a_sweep_of_one_engine_has_its_baseline_held_against_that_engine_of_several() -> None:
    a = engines("a", {"sglang": 100.0, "vllm": 200.0}, {"sglang": 300.0, "vllm": 250.0})
    found = beside(a, engines("b", {"vllm": 210.0}, {"vllm": 400.0}))
    (one,) = only(found).baseline
    assert one.engine == "vllm"
    assert one.change == pytest.approx(0.05)
    other = beside(engines("a", {"sglang": 100.0}, {"sglang": 300.0}), engines("b", {"vllm": 210.0}, {"vllm": 400.0}))
    (one,) = only(other).baseline
    assert one.engine is None
    assert one.change == pytest.approx(1.1)
