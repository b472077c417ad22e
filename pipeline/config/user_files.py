"""Reads what a traffic names: a file of prompts, a file of arrival times."""

from dataclasses import replace

from pipeline.config import open_loop
from pipeline.core.schema import Config
from pipeline.prompts import arrival_trace, survey


def read(parsed: Config) -> Config:
    """With what is in the files, read and checked whole; remembered until they change.

    Raises:
        ConfigError: a file cannot be used, or a level cannot be sent in its time.
    """
    traffic = parsed.traffic
    if traffic.is_own:
        traffic = replace(traffic, dataset=survey.of(traffic, parsed.model))
    if traffic.arrival == "trace":
        traffic = replace(traffic, recorded=arrival_trace.survey(traffic))
    open_loop.check_time(traffic)
    return replace(parsed, traffic=traffic)
