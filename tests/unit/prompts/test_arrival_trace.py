"""Files of arrival times: what is taken, and which line is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import arrival_trace
from support.records import make_config


def traffic(path: Path, text: str) -> Traffic:
    path.write_text(text)
    return replace(make_config().traffic, arrival="trace", trace=path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "0.5\n1\n\n# a remark\n2.5\n"),
        ("a.csv", "0.5\r\n1\r\n2.5"),
        ("a.jsonl", '{"timestamp": 500, "input_length": 3}\n{"timestamp": 1000}\n{"timestamp": 2500}\n'),
    ],
)
def test_lines_of_seconds_and_json_lines_of_milliseconds_are_read(tmp_path: Path, name: str, text: str) -> None:
    given = traffic(tmp_path / name, text)
    found = arrival_trace.survey(given)
    assert (found.arrivals, found.rate) == (3, 1.0)
    assert arrival_trace.times(given) == (0.5, 1.0, 2.5)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "1\ntwo\n", "line 2: expected a number of seconds, got 'two'"),
        ("a.txt", "1\n\n-2\n", "line 3: expected a number of seconds, got '-2'"),
        ("a.txt", "1\nnan\n", "line 2: expected a number of seconds"),
        ("a.txt", "3\n2\n", "line 2: 2 s comes after 3 s: times must rise"),
        ("a.txt", "1\n1_0\n", "line 2: expected a number of seconds, got '1_0'"),
        ("a.txt", "1\n", "has 1 arrival times: expected two or more"),
        ("a.txt", "1\n1\n", "has 2 arrival times, all alike: expected two or more, at different times"),
        ("a.jsonl", '{"timestamp": 1}\n{"time": 2}\n', 'line 2: expected an object with "timestamp"'),
        ("a.jsonl", "[]\n", "line 1: expected an object"),
        ("a.txt", "1\n1e300\n", "line 2: expected a number of seconds, got '1e300': that is more than 300 years"),
        ("a.txt", "1796060328.2\n1796060328.1\n", "1796060328.1 s comes after 1796060328.2 s"),
        ("a.txt", "0\n5e-324\n", "has 2 arrival times, all alike: expected two or more, at different times"),
        ("a.jsonl", '{"timestamp": true}\n', "line 1: expected an object"),
    ],
)
def test_the_first_wrong_line_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        arrival_trace.survey(traffic(tmp_path / name, text))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_none_is_told(tmp_path: Path) -> None:
    given = replace(make_config().traffic, arrival="trace", trace=tmp_path / "none.txt")
    with pytest.raises(ConfigError, match=r"none\.txt does not exist"):
        arrival_trace.survey(given)
    with pytest.raises(ConfigError, match="is not a file"):
        arrival_trace.survey(replace(given, trace=tmp_path))
    with pytest.raises(ConfigError, match="has no value"):
        arrival_trace.survey(replace(given, trace=None))
    with pytest.raises(ConfigError, match=r"traffic\.max_file_mb=0\.001: cut it"):
        arrival_trace.survey(replace(traffic(tmp_path / "large.txt", "1\n" * 1000), max_file_mb=0.001))


def test_a_file_that_changes_during_a_trial_is_told(tmp_path: Path) -> None:
    given = traffic(tmp_path / "a.txt", "1\n2\n")
    begun = replace(given, recorded=arrival_trace.survey(given))
    (tmp_path / "a.txt").write_text("1\n2\n3\n")
    with pytest.raises(ConfigError, match="has changed since the trial began"):
        arrival_trace.times(begun)


@pytest.mark.parametrize("text", [f'{{"timestamp": 1{"0" * 400}}}', "[" * 5000], ids=["a long number", "a deep list"])
def test_json_that_python_cannot_hold_is_a_wrong_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2: expected an object with .timestamp., .*, got '"):
        arrival_trace.survey(traffic(tmp_path / "a.jsonl", f'{{"timestamp": 1}}\n{text}\n'))
