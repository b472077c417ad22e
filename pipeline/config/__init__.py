"""Turns Hydra's composed tree into one frozen Config, and a Config into a trial's Plan."""
