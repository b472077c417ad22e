"""Many trials: which is next, where it runs, and how the sweep resumes after a stop."""
