"""Many trials: which is next, where it runs, how it goes on after a stop."""
