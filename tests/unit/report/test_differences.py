"""What has to be alike for two sweeps' scores to be compared."""

from pipeline.report import differences

SAME = {"traffic.levels": "given", "objective": "output_tokens_per_s", "model": "m", "traffic.dataset.sha256": "5bac"}


def test_tokens_that_another_tokenizer_counts_in_the_same_file_are_no_obstacle() -> None:
    ours, theirs = ({**SAME, "traffic.dataset.input_tokens_mean": mean} for mean in ("29.0", "23.1"))
    assert differences.obstacles(ours, theirs) == ()
    (other,) = differences.obstacles(ours, {**theirs, "traffic.dataset.sha256": "1d04"})
    assert other.name == "traffic.dataset.sha256"
