"""Replay: a search on recorded measurements instead of servers, by the code that users run, under a simulated clock."""
