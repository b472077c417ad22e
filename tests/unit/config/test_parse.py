"""What a configuration may hold, and what is said when it does not."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.config.knobs import allowed, check_knob
from pipeline.config.parse import parse
from pipeline.core.errors import ConfigError
from pipeline.core.schema import Knob
from support.records import CONFIG, make_config

INT = Knob(kind="int", flag="--n", help="how many", unit="threads", minimum=1, maximum=8)
OPEN_INT = Knob(kind="int", flag="--n", help="how many")
FLOAT = Knob(kind="float", flag="--f", help="share", minimum=0, maximum=1)
BOOL = Knob(kind="bool", flag="--b", help="whether")
CHOICE = Knob(kind="choice", flag="--c", help="which", choices=("on", "off", "1"))


@pytest.mark.parametrize(
    ("knob", "setting"),
    [
        pytest.param(INT, 1, id="int-at-minimum"),
        pytest.param(INT, 8, id="int-at-maximum"),
        pytest.param(OPEN_INT, -(10**9), id="int-without-range"),
        pytest.param(FLOAT, 0.5, id="float"),
        pytest.param(FLOAT, 1, id="float-given-as-int"),
        pytest.param(BOOL, True, id="true"),
        pytest.param(BOOL, False, id="false"),
        pytest.param(CHOICE, "on", id="choice"),
        pytest.param(CHOICE, 1, id="choice-given-as-int"),
        *(pytest.param(knob, None, id=f"null-{knob.kind}") for knob in (INT, FLOAT, BOOL, CHOICE)),
    ],
)
def test_a_knob_takes(knob: Knob, setting: object) -> None:
    check_knob("n", knob, setting)
    with pytest.raises(ConfigError):  # and not just anything
        check_knob("n", knob, object())


@pytest.mark.parametrize(
    ("knob", "setting", "expected"),
    [
        (INT, 0, "n=0: expected an integer, 1 or more, at most 8 (threads) or null (how many)."),
        (INT, 9, "n=9: expected an integer, 1 or more, at most 8 (threads) or null (how many)."),
        (INT, 2.0, "n=2.0: expected an integer"),
        (INT, "2", "n=2: expected an integer"),
        (INT, True, "n=true: expected an integer"),
        (OPEN_INT, "x", "n=x: expected an integer or null (how many)."),
        (FLOAT, 1.01, "n=1.01: expected a number, 0 or more, at most 1 or null (share)."),
        (FLOAT, True, "n=true: expected a number"),
        (FLOAT, float("nan"), "n=nan: expected a number"),
        (BOOL, 1, "n=1: expected true or false or null (whether)."),
        (BOOL, "true", "n=true: expected true or false"),
        (CHOICE, "maybe", "n=maybe: expected one of on, off, 1 or null (which)."),
        (CHOICE, True, "n=true: expected one of on, off, 1"),
    ],
    ids=[
        "too-small", "too-big", "float-for-int", "text-for-int", "bool-for-int", "text-without-range", "float-too-big",
        "bool-for-float", "not-a-number", "int-for-bool", "text-for-bool", "no-choice", "bool-for-choice",
    ],
)  # fmt: skip
def test_a_knob_refuses(knob: Knob, setting: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_knob("n", knob, setting)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        (INT, "an integer, 1 or more, at most 8 (threads)"),
        (OPEN_INT, "an integer"),
        (Knob(kind="int", flag="-x", help="", maximum=3), "an integer, at most 3"),
        (Knob(kind="int", flag="-x", help="", minimum=0, unit="tokens"), "an integer, 0 or more (tokens)"),
        (FLOAT, "a number, 0 or more, at most 1"),
        (BOOL, "true or false"),
        (CHOICE, "one of on, off, 1"),
    ],
    ids=["range", "open", "maximum", "minimum-and-unit", "float", "bool", "choice"],
)
def test_says_what_a_knob_takes(knob: Knob, words: str) -> None:
    assert allowed(knob) == words


def tree(*path_and_value: Any, **root: Any) -> Any:
    """The tree that parses; `path_and_value`: dotted keys and their new values."""
    data = {name: section for name, section in CONFIG.items() if name != "knobs"}
    made = OmegaConf.create({**data, **CONFIG["knobs"], **root})
    for path, setting in zip(path_and_value[::2], path_and_value[1::2], strict=True):
        OmegaConf.update(made, path, setting, merge=False)
    return made


def test_parses_a_tree_with_the_knobs_at_its_root() -> None:
    assert parse(tree()) == make_config()


def test_a_single_objective_is_a_list_of_one() -> None:
    assert parse(tree(objective="ttft_p95_s")).objective == ("ttft_p95_s",)


def test_a_knob_that_is_not_given_is_null() -> None:
    made = tree()
    del made["page_size"]
    assert parse(made).knobs == {"page_size": None, "slots": None}


@pytest.mark.parametrize(("page_size", "expected"), [(None, True), (32, False)], ids=["all-null", "one-set"])
def test_a_baseline_leaves_every_knob_to_the_engine(page_size: int | None, *, expected: bool) -> None:
    assert parse(tree(page_size=page_size)).is_baseline is expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tree("traffic.seed", "x"), "traffic.seed: expected an integer, got 'x'."),
        (tree("traffic.seed", 1.5), "traffic.seed: expected an integer, got 1.5."),
        (tree("traffic.seed", -1), "traffic.seed: expected 0 or more, got -1."),
        (tree("traffic.min_requests", 0), "traffic.min_requests: expected more than 0, got 0."),
        (tree("traffic.all_levels", "2x"), "traffic.all_levels: expected true or false, got '2x'."),
        (tree("traffic.concurrencies", []), "traffic.concurrencies: expected at least one item, got []."),
        (tree("traffic.concurrencies", 4), "traffic.concurrencies: expected a list, got 4."),
        (tree("traffic.scenarios", ["D(1)"]), "traffic.scenarios.0: expected D(in,out), N(mean,sd)/(mean,sd) or U("),
        (tree("traffic.concurrencies", [0]), "traffic.concurrencies.0: expected more than 0, got 0."),
        (tree("traffic.surprise", 1), "traffic.surprise: unknown key."),
        (tree("traffic", 3), "traffic: expected keys and values, got 3."),
        (tree("slo.attainment", 2), "slo.attainment: expected at most 1, got 2."),
        (tree("slo.ttft_s", "fast"), "slo.ttft_s: expected a number, got 'fast'."),
        (tree("bench.runner", "locust"), "bench.runner: expected 'resident', 'cli' or 'aiperf', got 'locust'."),
        (tree("bench.workers", 0), "bench.workers: expected auto, or a number of processes up to 256, got 0."),
        (tree("bench.workers", 2, "bench.runner", "cli"), "bench.workers=2 needs bench.runner=resident and bench.loc"),
        (tree("model.served_name", None), "model.served_name: expected a string, got null."),
        (tree("model.path", 3), "model.path: expected a path, got 3."),
        (tree("backend.target", "os.system"), "backend.target: expected pipeline.backends.<module>.<Class>, got"),
        (tree("tracker.target", "os.system"), "tracker.target: expected pipeline.trackers.<module>.<Class>, got"),
        (tree("runtime.env", {"HF_TOKEN": "x"}), "instead of runtime.env.HF_TOKEN: it looks like a secret"),
        (tree(surprise=1), "surprise: unknown key."),
        (tree(objective=[]), "objective: expected at least one item, got []."),
        (tree(objective=None), "objective: expected a list, got null."),
        (tree(slots=[1, 2]), "slots: expected one value, got [1, 2]."),
        (tree(slots=0), "slots=0: expected an integer, 1 or more or null (requests at once)."),
        (tree("model.path", "???"), "model.path has no value: add model.path=... to the command."),
        (tree("model.path", "${nope}"), "model.path does not resolve: Interpolation key 'nope' not found."),
        (OmegaConf.create({"model": {"name": "x"}}), "runtime: is missing"),
        (tree("traffic.seed", "x", "slo.ttft_s", 0), "traffic.seed: expected an integer, got 'x'; slo.ttft_s: "),
    ],
    ids=[
        "text-for-int", "fraction-for-int", "below-minimum", "not-positive", "no-bool", "empty-list", "no-list",
        "scenario", "only-bad-items", "unknown-in-section", "no-section", "above-maximum", "no-number", "no-choice",
        "no-workers", "workers-of-another",
        "null-text", "no-path", "backend-target", "tracker-target", "secret", "unknown-at-root", "no-objective",
        "null-objective", "list-for-knob", "knob-out-of-range", "missing", "interpolation", "no-runtime", "several",
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(made: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(made)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("traffic.concurrencies", [1, True], "traffic.concurrencies.1: expected an integer, got true."),
        ("traffic.rates", [True], "traffic.rates.0: expected a number, got true."),
        ("traffic.min_requests", True, "traffic.min_requests: expected an integer, got true."),
        ("timeouts.deploy_s", True, "timeouts.deploy_s: expected a number, got true."),
        ("slo.limits", {"ttft_p95_s": True}, "slo.limits.ttft_p95_s: expected a number, got true."),
        ("bench.workers", True, "bench.workers: expected an integer, got true."),
        ("traffic.drain_s", False, "traffic.drain_s: expected a number, got false."),
    ],
    ids=["list", "rates", "integer", "number", "mapping", "auto", "false"],
)
def test_true_and_false_are_no_numbers(path: str, given: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tree(path, given))
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("traffic.arrival", "poisson"),
        ("traffic.levels", "capacity"),
        ("traffic.order", "rising"),
        ("traffic.cache", "warm"),
        ("traffic.format", "jsonl"),
        ("bench.location", "cluster"),
        ("bench.crowded", "ignore"),
        ("tracker.mode", "offline"),
        ("runtime.reads", "sglang"),
        ("runtime.cache_reset", "sglang_flush"),
    ],
)
def test_a_choice_in_capital_letters_is_told_those_there_are(path: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tree(path, meant.title()))
    told = str(caught.value)
    assert told.startswith(f"{path}: expected '")
    assert told.endswith(f", got '{meant.title()}'. Did you mean {meant}?")


def test_every_arrival_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^traffic\.arrival: expected 'closed', 'constant', 'poisson' or 'trace', "):
        parse(tree("traffic.arrival", "sometimes"))
