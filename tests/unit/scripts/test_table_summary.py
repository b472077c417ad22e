"""What `benchmarks/record_tables.py` tells of a table: the numbers that the documentation has."""

from benchmarks.parts.summaries import summary


def row(score: str, *, pick: str = "null", failure: str = "", seconds: str = "2") -> dict[str, str]:
    return {
        "parallel": pick, "score": score, "failure": failure, "startup_s": "3", "seconds@x1": seconds, "_crowded": "0"
    }  # fmt: skip


def test_repeats_tell_the_noise_and_what_was_measured_once_is_marked() -> None:
    repeats = [row("20", pick="4"), row("24.43", pick="4")]  # 0.2 apart in logarithms
    told = [
        *summary(
            [row("20"), row("20"), *repeats, row("5", pick="1"), row("", pick="9", failure="oom_host")], ["parallel"]
        )
    ]
    assert told[0] == "  defaults: 20.0 (2 times, standard deviation 0.0%)"
    assert told[1] == "  noise: 14.1% (root mean square of 1 standard deviations)"
    assert told[2] == "  fastest of those: +11.1% against the defaults, parallel=4"
    assert told[3] == "  slowest: 5.0 (once), parallel=1"
    assert told[4].startswith("  fastest: 22.2 (2 times")
    assert told[6] == "  failed: 1; beside other work: 0"


def test_long_levels_are_counted_and_an_empty_table_shows_nothing() -> None:
    assert "  levels: 2.0 to 6.0 s, 50% over 5 s; start-up 3.0 s" in [
        *summary([row("20"), row("9", seconds="6")], ["parallel"])
    ]
    assert not [*summary([], ["parallel"])]
