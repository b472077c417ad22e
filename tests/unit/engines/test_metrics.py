"""What an engine tells of its own work, read as Prometheus text; texts of real engines are in metrics/."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import Answer, FakeEngine
from pipeline.core.engine_metrics import Reading
from pipeline.core.engine_times import Reading as Clocks
from pipeline.core.engine_times import Sum
from pipeline.core.places import CONF
from pipeline.core.schema_engine import Tells
from pipeline.core.values import parse
from pipeline.engines import metrics
from pipeline.engines.exposition import Unanswered

REAL = Path(__file__).parent / "metrics"
TELLS = Tells(metrics_path="/metrics", ttft=("vllm:ttft_seconds",), tpot=("vllm:new_seconds", "vllm:old_seconds"))
# As vllm 0.32.0 prints it: labels, several engines, a time stamp of creation beside each histogram
TEXT = """\
# HELP vllm:ttft_seconds Histogram of time to first token in seconds.
# TYPE vllm:ttft_seconds histogram
vllm:ttft_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:ttft_seconds_bucket{engine="0",le="+Inf",model_name="m"} 29.0
vllm:ttft_seconds_count{engine="0",model_name="m"} 29.0
vllm:ttft_seconds_sum{engine="0",model_name="m"} 0.783
vllm:ttft_seconds_count{engine="1",model_name="m"} 1.0
vllm:ttft_seconds_sum{engine="1",model_name="m"} 1.5e-02
vllm:ttft_seconds_created{engine="0",model_name="m"} 1.7960043e+09
vllm:old_seconds_count 464.0
vllm:old_seconds_sum 4.25
"""
CLOCKS = Clocks(ttft=Sum(seconds=0.798, count=30), tpot=Sum(seconds=4.25, count=464))


def tells(**metrics: Any) -> Tells:
    """An engine with these metrics and no others."""
    return parse(Tells, {"metrics_path": "/metrics", "metrics": metrics})


def read(text: str, tells: Tells, version: str | None = None) -> Reading:
    """What is read of an engine that answers with this text."""
    with FakeEngine(**{"GET /metrics": (200, text)}) as server:
        seen = metrics.read(server.url, tells, version)
    assert seen is not None
    return seen


def of(runtime: str) -> Tells:
    """What is known of a shipped engine."""
    return parse(Tells, yaml.safe_load((CONF / "runtime" / f"{runtime}.yaml").read_text())["runtime"]["tells"])


def test_sums_and_counts_are_those_of_all_engines_of_the_server() -> None:
    assert read(TEXT, TELLS).clocks == CLOCKS


def test_of_several_names_the_first_that_is_there_counts() -> None:
    both = TEXT + "vllm:new_seconds_count 29.0\nvllm:new_seconds_sum 0.29\n"
    assert read(both, TELLS).clocks.tpot == Sum(seconds=0.29, count=29)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, "no such path"), "HTTP 404"),
        ((500, ""), "HTTP 500"),
        ((200, "vllm:ttft_seconds_sum many"), "no Prometheus text"),
        ((200, "vllm:ttft_seconds_sum{engine= 1"), "no Prometheus text"),
        ((200, '{"detail": "no text"}'), "none of the metrics"),
        ((200, "<html><body>Sign in</body></html>"), "none of the metrics"),
        ((200, ""), "none of the metrics"),
        ((200, "vllm:ttft_seconds_sum NaN\n"), "none of the metrics"),
    ],
    ids=["not-enabled", "an-error", "no-number", "cut-labels", "other-text", "a-page", "nothing", "not-a-number"],
)
def test_what_cannot_be_read_is_said_in_words(answer: Answer, why: str) -> None:
    with FakeEngine(**{"GET /metrics": answer}) as server, pytest.raises(Unanswered, match=why) as raised:
        metrics.read(server.url, TELLS)
    assert not raised.value.is_slow


def test_bytes_that_are_no_text_are_no_trouble() -> None:
    assert read(f"\udcff\x00 1\n{TEXT}".encode("utf-8", "replace").decode(), TELLS).clocks == CLOCKS


def test_a_server_that_is_gone_is_said_in_words() -> None:
    with pytest.raises(Unanswered, match="connection"):
        metrics.read("http://127.0.0.1:9", TELLS)


@contextmanager
def slow_server(*, sends: bytes) -> Iterator[str]:
    """One that takes a connection, sends this again and again, and never ends."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" if sends else b"")
                while not over.wait(0.02):
                    taken.sendall(sends)

        thread = threading.Thread(target=_ignoring_broken_pipes, args=[serve])
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


def _ignoring_broken_pipes(serve: Any) -> None:
    try:
        serve()
    except OSError:
        return


@pytest.mark.parametrize("sends", [b"", b"#\n"], ids=["nothing", "a-comment-now-and-then"])
def test_one_that_hangs_or_drips_costs_its_deadline(sends: bytes) -> None:
    with slow_server(sends=sends) as url, pytest.raises(Unanswered, match=r"no answer within 0\.3 s") as raised:
        metrics.read(url, TELLS, timeout_s=0.3)
    assert raised.value.is_slow


def test_one_that_never_ends_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engines.exposition.MOST_BYTES", 10_000)
    with slow_server(sends=b"x" * 100_000) as url, pytest.raises(Unanswered, match="more than"):
        metrics.read(url, TELLS, timeout_s=60)


def test_an_engine_that_has_none_is_not_asked() -> None:
    with FakeEngine(**{"GET /metrics": (200, TEXT)}) as server:
        assert metrics.read(server.url, Tells()) is None
        assert server.asked == []


def test_engines_behind_one_port_are_added_up_and_the_fullest_counts() -> None:
    text = "".join(f'run{{engine="{at}"}} {at}\nkv{{engine="{at}"}} 0.{at}\n' for at in (2, 5))
    seen = read(text, tells(running=["run"], kv_use=["kv"]))
    assert seen == Reading(gauges={"running": 7.0, "kv_use": 0.5})


def test_processes_that_tell_the_same_count_once() -> None:
    text = "".join(f'run{{dp_rank="{dp}",tp_rank="{tp}"}} {3 + dp}\n' for dp in (0, 1) for tp in range(4))
    assert read(text, tells(running=[{"name": "run", "copies": ["tp_rank"]}])).gauges == {"running": 7.0}


def test_a_series_is_one_of_several_by_its_labels() -> None:
    text = "".join(f't_sum{{stage="{name}"}} {at}\nt_count{{stage="{name}"}} 2\n' for at, name in enumerate("ab"))
    found = read(text, tells(prefill=[{"name": "t", "labels": {"stage": "b"}}]))
    assert found.times == {"prefill": Sum(seconds=1.0, count=2)}


@pytest.mark.parametrize(
    ("version", "running"),
    [("0.9", 1.0), ("0.10.2", 2.0), ("0.10.2+cpu", 2.0), (None, 1.0), ("b11549-abc", 1.0)],
    ids=["older", "newer", "of-a-build", "unknown", "no-version"],
)
def test_a_name_is_that_of_the_version(version: str | None, running: float) -> None:
    names = [{"name": "old", "versions": "<0.10"}, {"name": "new"}]
    assert read("old 1\nnew 2\n", tells(running=names), version).gauges == {"running": running}


@pytest.mark.parametrize(("text", "seen"), [("", {}), ("other 3\n", {"preemptions": 0.0, "requests": 3.0})])
def test_a_counter_that_starts_absent_is_zero_where_the_engine_tells_anything(
    text: str, seen: dict[str, float]
) -> None:
    known = tells(preemptions=[{"name": "evicted", "starts_absent": True}], requests=["other"])
    if not seen:
        with pytest.raises(Unanswered):
            read(text, known)
        return
    assert read(text, known).counters == seen


# What these texts were taken of: two answered requests of the same prompt; SGLang has warmed itself up with a third
@pytest.mark.parametrize(
    ("runtime", "version", "gauges", "counters", "times"),
    [
        (
            "vllm",
            "0.32.0",
            {"running": 0, "waiting": 0, "kv_use": 0},
            {
                "requests": 2,
                "prompt_tokens": 326,
                "output_tokens": 16,
                "preemptions": 0,
                "cache_queries": 326,
                "cached_tokens": 128,
            },
            {"queue": 2, "prefill": 2, "decode": 2, "ttft": 2, "tpot": 2},
        ),
        (
            "sglang",
            "0.5.23",
            {"running": 0, "waiting": 0, "kv_use": 0, "accept_rate": 0},
            {"requests": 3, "prompt_tokens": 345, "output_tokens": 108, "preemptions": 0, "cached_tokens": 162},
            {"queue": 4, "prefill": 4, "ttft": 3, "tpot": 3},
        ),
        (
            "llamacpp",
            "b11549-0000000",
            {"running": 0, "waiting": 0},
            {
                "uncached_tokens": 41,
                "output_tokens": 16,
                "cached_tokens": 39,
                "drafted_tokens": 0,
                "accepted_tokens": 0,
            },
            {},
        ),
    ],
    ids=["vllm", "sglang", "llamacpp"],
)
def test_real_engines_say_what_they_are_known_to_say(
    runtime: str, version: str, gauges: dict[str, int], counters: dict[str, int], times: dict[str, int]
) -> None:
    seen = read((REAL / f"{runtime}.txt").read_text(), of(runtime), version)
    assert seen.gauges == gauges
    assert {name: number for name, number in seen.counters.items() if name not in ("prefill", "decode")} == counters
    assert {name: one.count for name, one in seen.times.items()} == times
    assert (runtime == "llamacpp") == ({"prefill", "decode"} <= seen.counters.keys())
