"""What a sweep says in the end: the ranked table against the baseline and the best configuration."""
