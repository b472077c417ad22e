"""What a sweep's winner leaves to be run elsewhere, and whether it is checked again for real."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from hydra import initialize_config_dir

from parts.llama import lasting_ports
from pipeline import recheck
from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.record import Record, Stats
from pipeline.core.statistics import Interval
from pipeline.core.values import load, plain
from pipeline.machine import process
from pipeline.report import best, publication
from pipeline.report.best import card, scripts
from support import forked
from support.cli import Result, command, pipeline
from support.places import ROOT, TESTS
from support.records import make_metrics, make_record

TOLERANCE = recheck.Tolerance(share=0.1, latency=0.25)
ENGINE = ("runtime=sglang", "model=llama31_8b", "hardware=h100", "page_size=64", "tp_size=2")


def winner(*overrides: str, **changes: Any) -> Record:
    with initialize_config_dir(str(CONF)):
        config = to_config(composed(list(overrides)))
    return make_record(config=config, overrides=overrides, **changes)


def written(folder: Path, made: Record, *others: Record, verdict: Sequence[str] = ()) -> dict[str, str]:
    best.write(folder, made, [made, *others], verdict)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def words(script: str) -> list[str]:
    """Of the command that a script ends with."""
    return shlex.split(script.partition("exec ")[2].replace("\\\n", ""))


def test_everything_is_there_and_every_script_is_one(tmp_path: Path) -> None:
    files = written(tmp_path, winner(*ENGINE))
    scripts = {"serve.sh", "docker-run.sh", "command.sh", "recheck.sh"}
    objects = {"ome/1-clusterbasemodel.yaml", "ome/2-clusterservingruntime.yaml", "ome/3-inferenceservice.yaml"}
    assert {*files} == {*scripts, *objects, "compose.yaml", "overrides.txt", "card.md", "card.json"}
    for name in scripts:
        subprocess.run(["sh", "-n", str(tmp_path / name)], check=True)
        assert os.access(tmp_path / name, os.X_OK)
    assert files["overrides.txt"].split() == [*ENGINE]


@pytest.mark.parametrize(
    ("program", "script", "expected"),
    [
        ("servetune", "command.sh", [*ENGINE, "n=1"]),
        ("python", "command.sh", ["-m", "pipeline", *ENGINE, "n=1"]),
        ("servetune", "recheck.sh", ["recheck", "{folder}", "n=1"]),
        ("python", "recheck.sh", ["-m", "pipeline.recheck", "{folder}", "n=1"]),
    ],
)
def test_the_scripts_run_servetune_as_it_is_installed(
    tmp_path: Path, program: str, script: str, expected: list[str]
) -> None:
    folder, tools = tmp_path / "best", tmp_path / "bin"
    written(folder, winner(*ENGINE))
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / program).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / program).chmod(0o755)
    argv, env = [str(folder / script), "n=1"], {"PATH": str(tools)}
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [word.format(folder=folder) for word in expected]


def test_every_way_to_start_it_has_the_same_flags(tmp_path: Path) -> None:
    files = written(tmp_path, winner(*ENGINE))
    compose = yaml.safe_load(files["compose.yaml"])["services"]["engine"]
    service = yaml.safe_load(files["ome/3-inferenceservice.yaml"])
    ways = (
        words(files["serve.sh"]),
        words(files["docker-run.sh"]),
        compose["command"],
        service["spec"]["engine"]["runner"]["args"],
    )
    assert ways[0].pop() == "$@"
    for way in ways:
        assert way[way.index("--tp-size") :] == ["--tp-size", "2", "--page-size", "64"]
    assert compose["image"] == "lmsysorg/sglang:v0.5.23"
    assert compose["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2
    assert compose["ports"] == ["127.0.0.1:8000:8000"]


def test_what_is_started_with_them_is_nobodys_trial(tmp_path: Path) -> None:
    """Nothing that carries a lease's label may be lasting: the reaper would remove it."""
    files = written(tmp_path, winner(*ENGINE))
    assert not [name for name, text in files.items() if "servetune.lease" in text or "servetune.io/lease" in text]
    service = yaml.safe_load(files["ome/3-inferenceservice.yaml"])
    assert service["metadata"]["name"] == "st-best-llama31-8b"
    assert "ownerReferences" not in service["metadata"]


def test_the_image_that_was_measured_is_named_by_its_digest(tmp_path: Path) -> None:
    digest = "lmsysorg/sglang@sha256:" + "0" * 64
    files = written(tmp_path, winner(*ENGINE, "backend=docker", deployment={"image_digest": digest}))
    assert digest in words(files["docker-run.sh"])
    assert yaml.safe_load(files["compose.yaml"])["services"]["engine"]["image"] == digest


def test_what_cannot_be_made_is_left_out_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "ome").mkdir()
    (tmp_path / "ome" / "3-inferenceservice.yaml").write_text("of an earlier winner")
    files = written(tmp_path, winner("n_threads=2"))
    assert {"compose.yaml", "ome/3-inferenceservice.yaml"}.isdisjoint(files)
    assert "- docker: runtime=llamacpp has no image" in files["card.md"]


MEASURED = "set while measuring only"
OPENING = f"{MEASURED}: it opens paths that no API key guards"


@pytest.mark.parametrize(
    ("overrides", "withheld"),
    [
        (["runtime=vllm"], {"VLLM_SERVER_DEV_MODE=1": OPENING}),
        (["runtime=vllm", "backend=docker"], {"VLLM_SERVER_DEV_MODE=1": OPENING}),
        (["runtime=vllm", "+runtime.env.VLLM_SERVER_DEV_MODE='1'"], {"VLLM_SERVER_DEV_MODE=1": OPENING}),
        (["runtime=vllm", "+runtime.measuring.env.VLLM_TRACE='1'"], {"VLLM_TRACE=1": MEASURED}),
        (["runtime=sglang"], {"--random-seed 42 --enable-metrics": MEASURED}),
        (["runtime=llamacpp"], {"--cache-ram 0": MEASURED, "--slot-save-path $RUN_DIR": OPENING}),
    ],
    ids=["vllm", "vllm-in-docker", "set-by-the-user", "a-variable", "sglang", "llamacpp"],
)
def test_nothing_is_handed_over_that_was_for_measuring(
    overrides: list[str], withheld: dict[str, str], tmp_path: Path
) -> None:
    files = written(tmp_path, winner(*overrides))
    told = load(card.Card, tmp_path / "card.json")
    for what, why in withheld.items():
        assert told.left_out[what] == why
        assert f"- {what}: {why}" in files["card.md"]
        word = what.partition("=")[0].split()[0]
        startable = {
            name: text for name, text in files.items() if name.endswith((".sh", ".yaml")) and "command" not in name
        }
        assert startable
        assert [name for name, text in startable.items() if word in text] == []


@pytest.mark.parametrize(
    "overrides",
    [["runtime=vllm", "+runtime.env.A='b c'"], ["runtime=sglang"], ["runtime=llamacpp", "n_threads=2"]],
    ids=["vllm", "sglang", "llamacpp"],
)
def test_the_line_below_the_best_is_what_serve_sh_runs(overrides: list[str], tmp_path: Path) -> None:
    """Shown on a terminal, in best.json and by a tracker: as it is handed over, not as it was measured."""
    made = winner(*overrides, argv=("as", "measured"), objective={"output_tokens_per_s_per_gpu": 1.0})
    files = written(tmp_path, made)
    (model,) = re.findall(r"\$\{MODEL:=(.*?)\}", files["serve.sh"])
    usual = {"$MODEL": model, "$LISTEN": "127.0.0.1", "$PORT": "8000"}
    script = [usual.get(word, word) for word in words(files["serve.sh"])][:-1]
    told = publication.result_of([made]).best
    assert told is not None
    variables = [word for word in shlex.split(told.server_command) if word.startswith("A=")]
    assert shlex.split(told.server_command) == [*variables, *script]
    assert variables == (["A=b c"] if "runtime=vllm" in overrides else [])
    assert scripts.server_line(made) == told.server_command


@pytest.mark.parametrize("overrides", [[], ["backend=docker"], ["backend=ome"], ["backend.host=0.0.0.0"]])
def test_what_is_handed_over_answers_this_machine_only(overrides: list[str], tmp_path: Path) -> None:
    """OME's pod apart, which is to be reached from other nodes."""
    files = written(tmp_path, winner("runtime=vllm", "model=llama31_8b", "hardware=h100", *overrides))
    serve = words(files["serve.sh"])
    assert '"${LISTEN:=127.0.0.1}"' in files["serve.sh"]
    assert serve[serve.index("--host") + 1] == "$LISTEN"
    run = words(files["docker-run.sh"])
    assert run[run.index("-p") + 1] == "127.0.0.1:8000:8000"
    assert yaml.safe_load(files["compose.yaml"])["services"]["engine"]["ports"] == ["127.0.0.1:8000:8000"]


def test_a_container_in_the_hosts_network_answers_this_machine_only(tmp_path: Path) -> None:
    host = ("backend=docker", "backend.container.network=host", "backend.host=0.0.0.0")
    run = words(written(tmp_path, winner("runtime=vllm", "model=llama31_8b", *host))["docker-run.sh"])
    assert run[run.index("--host") + 1] == "127.0.0.1"


def test_odd_values_stay_what_they_are(tmp_path: Path) -> None:
    odd = 'runtime.extra_args=["--json={\'a\': \\"$HOME\\"}"]'
    made = winner(*ENGINE, odd)
    (asked,) = made.config.runtime.extra_args
    files = written(tmp_path, made)
    assert words(files["serve.sh"])[-2] == words(files["docker-run.sh"])[-1] == asked
    assert yaml.safe_load(files["compose.yaml"])["services"]["engine"]["command"][-1] == asked.replace("$", "$$")


def test_the_card_has_intervals_over_the_rounds(tmp_path: Path) -> None:
    made = winner(*ENGINE, number=3, objective={"output_tokens_per_s_per_gpu": 10.0})
    again = [
        replace(made, number=4 + i, repeat_of=3, phase="confirm", objective={"output_tokens_per_s_per_gpu": seen})
        for i, seen in enumerate((11.0, 12.0))
    ]
    other = replace(made, number=9, repeat_of=3, phase="held_out", objective={"output_tokens_per_s_per_gpu": 99.0})
    files = written(tmp_path, made, *again, other, verdict=["Trial 3: better by 12% [8%, 15%]."])
    told = load(card.Card, tmp_path / "card.json")
    assert (told.measured, told.objective["output_tokens_per_s_per_gpu"].mean) == (2, 11.5)  # not the search's 10
    assert "- output_tokens_per_s_per_gpu: 11.5 [5.147, 17.85]" in files["card.md"]
    assert "- Trial 3: better by 12% [8%, 15%]." in files["card.md"]


@pytest.mark.parametrize(
    ("speed", "verdict"), [(149.0, "as expected"), (120.0, "worse"), (200.0, "better"), (None, "missing")]
)
def test_a_new_measurement_is_held_against_the_card(speed: float | None, verdict: str) -> None:
    made = winner(*ENGINE)
    told = card.of(made, [made], None)
    objective = None if speed is None else {"output_tokens_per_s": speed}
    line = next(recheck.compare(told, replace(made, objective=objective), TOLERANCE))
    assert (line.name, line.level, line.verdict) == ("output_tokens_per_s", None, verdict)


def compared(made: Record, **changes: Any) -> dict[str, str]:
    """The verdict on each metric of the first level, measured again with these changes."""
    again = tuple(replace(level, metrics=replace(make_metrics(), **changes)) for level in made.levels)
    lines = recheck.compare(card.of(made, [made], None), replace(made, levels=again), TOLERANCE)
    return {line.name: line.verdict for line in lines if line.level == made.levels[0].name}


def stats(name: str, factor: float) -> Stats:
    """A latency of the made-up level, so many times as long."""
    seen = plain(getattr(make_metrics(), name))
    return Stats(**{stat: item * factor for stat, item in seen.items()})


def test_nothing_has_changed() -> None:
    made = winner(*ENGINE)
    assert set(compared(made).values()) == {"as expected"}
    assert {"output_tokens_per_s", "ttft_p95_s", "tpot_mean_s", "error_rate"} <= compared(made).keys()


@pytest.mark.parametrize(
    ("changes", "metric", "verdict"),
    [
        pytest.param({"ttft": stats("ttft", 2.3)}, "ttft_p95_s", "worse", id="ttft of 2.3 times"),
        pytest.param({"tpot": stats("tpot", 20)}, "tpot_mean_s", "worse", id="tpot of 20 times"),
        pytest.param({"ttft": stats("ttft", 1.2)}, "ttft_p95_s", "as expected", id="latencies scatter"),
        pytest.param({"ttft": stats("ttft", 0.2)}, "ttft_p95_s", "better", id="faster is no fault"),
        pytest.param({"tpot": None}, "tpot_p95_s", "missing", id="no tpot any more"),
        pytest.param({"requests_per_s": 0.01}, "requests_per_s", "worse", id="fewer requests"),
        pytest.param({"output_tokens_per_s": 1e6}, "output_tokens_per_s", "better", id="more tokens"),
        pytest.param({"error_rate": 0.5}, "error_rate", "worse", id="errors where there were none"),
        pytest.param({"error_rate": 0.009}, "error_rate", "as expected", id="one of many failed"),
    ],
)
def test_every_metric_is_compared(changes: dict[str, Any], metric: str, verdict: str) -> None:
    told = compared(winner(*ENGINE), **changes)
    assert told[metric] == verdict
    others = {name for name in told if name.split("_")[0] != metric.split("_", maxsplit=1)[0]}
    assert {told[name] for name in others} == {"as expected"}


def test_goodput_is_compared_where_there_is_an_slo() -> None:
    seen = replace(make_metrics(), slo_attainment=1.0, goodput_requests_per_s=2.0)
    made = winner(*ENGINE)
    made = replace(made, levels=tuple(replace(level, metrics=seen) for level in made.levels))
    told = compared(made, slo_attainment=0.5, goodput_requests_per_s=1.0)
    assert (told["slo_attainment"], told["goodput_requests_per_s"]) == ("worse", "worse")


def test_a_level_that_is_missing_is_a_fault() -> None:
    made = winner(*ENGINE)
    lines = recheck.compare(card.of(made, [made], None), replace(made, levels=()), TOLERANCE)
    assert {line.verdict for line in lines if line.level} == {"missing"}


def test_a_capacity_is_held_against_at_its_own_level() -> None:
    """Another search would try other numbers of users: what it does not try is not missing."""
    made = winner(*ENGINE)
    made = replace(made, config=replace(made.config, traffic=replace(made.config.traffic, levels="capacity")))
    told = card.of(made, [made], None)
    assert told.recheck == (
        "traffic.levels=given",
        "traffic.concurrencies=[2]",
        'traffic.scenarios=["D(64,16)"]',
    )
    lines = list(recheck.compare(told, replace(made, levels=made.levels[-1:]), TOLERANCE))
    assert {(line.level, line.verdict) for line in lines if line.level} == {("D(64,16) x2", "as expected")}


def test_of_several_capacities_the_one_in_the_middle_is_expected() -> None:
    made = winner(*ENGINE)
    made = replace(made, config=replace(made.config, traffic=replace(made.config.traffic, levels="capacity")))
    level = made.levels[-1]
    rounds = [
        replace(
            made,
            number=users,
            repeat_of=made.number,
            phase="confirm",
            levels=(replace(level, concurrency=users),),
            best_level=f"D(64,16) x{users}",
        )
        for users in (12, 5, 8)
    ]
    told = card.of(made, [made, *rounds], None)
    assert told.recheck[1] == "traffic.concurrencies=[8]"
    assert list(told.levels) == ["D(64,16) x8"]


def test_two_measurements_that_lie_apart_do_not_allow_anything() -> None:
    made = winner(*ENGINE)
    told = card.of(made, [made], None)
    wide = Interval(mean=100, low=0, high=200, count=2)
    told = replace(told, levels={}, objective={"output_tokens_per_s": wide})
    (line,) = recheck.compare(told, replace(made, objective={"output_tokens_per_s": 40}), TOLERANCE)
    assert (line.low, line.verdict) == (50, "worse")


@pytest.mark.parametrize("share", ["-5", "0", "nan", "inf", "1.5", "10", "ten", "10%"])
@pytest.mark.parametrize("option", ["--tolerance", "--latency-tolerance"])
def test_a_tolerance_that_makes_no_sense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, share: str
) -> None:
    written(tmp_path, winner(*ENGINE))
    assert recheck.main([str(tmp_path), f"{option}={share}"]) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {option} {share}: expected a number above 0, at most 1; e.g. 0.1 allows 10%.\n"
    assert said.out == ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path) -> Result:
    """A sweep whose winner has four slots."""
    home = tmp_path_factory.mktemp("made")
    own = {"STATE": home / "state", "CACHE": home / "cache", "SLOTS": home / "slots"}
    env = {**{f"SERVETUNE_{name}_DIR": str(path) for name, path in own.items()}, "SERVETUNE_TESTS": str(TESTS)}
    env["STUB_BENCH_RATE"] = "slots"
    return pipeline("parallel=null,4", folder=home / "out", gguf=tiny_gguf, sweep=True, env=env)


@pytest.fixture
def swept(made: Result, tmp_path: Path) -> Result:
    """A copy of the sweep, of the test's own."""
    assert made.code == 0, made.err
    return replace(made, folder=shutil.copytree(made.folder, tmp_path / "out"))


def test_the_engine_starts_by_the_script(swept: Result) -> None:
    port = str(lasting_ports(1)[0])
    with subprocess.Popen([swept.folder / "best" / "serve.sh"], env={**os.environ, "PORT": port}) as server:
        try:
            assert process.wait_until(lambda: is_up(port), timeout_s=180)
            assert requests.get(f"http://127.0.0.1:{port}/props", timeout=5).json()["total_slots"] == 4
        finally:
            server.terminate()


def is_up(port: str) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=1).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize(("rate", "code", "words"), [("slots", 0, "As expected."), ("300", 1, "Not as expected")])
def test_the_winner_is_checked_again_for_real(swept: Result, rate: str, code: int, words: str) -> None:
    more = ["hydra.searchpath=[file://" + str(ROOT / "tests" / "fakes" / "conf") + "]"]
    done = again(swept.folder / "best", *more, env={"STUB_BENCH_RATE": rate})
    assert (done.returncode, words in done.stdout) == (code, True), done.stdout + done.stderr
    assert re.search(r"output_tokens_per_s_per_gpu +40\d", done.stdout)
    assert [*(swept.folder / "recheck").glob("*/0/record.json")]


def test_a_folder_without_a_card_is_told(tmp_path: Path) -> None:
    done = again(tmp_path)
    assert (done.returncode, "Expected the folder best/ of a sweep" in done.stderr) == (2, True)


def again(folder: Path, *more: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    argv = [*command(sweep=False, module="pipeline.recheck"), str(folder), *more]
    return forked.run(argv, env={**os.environ, **(env or {})})
