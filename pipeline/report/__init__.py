"""The results of a sweep: the ranked table against the baseline, and the best configuration."""
