"""The result as a table for people."""

from collections.abc import Iterator, Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> str:
    """The GPUs, a line for each trial and level, what was given back, and the time of each step."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    for gpu in result["gpus"]:
        yield f"GPU: {gpu['name']}, driver {gpu['driver']}, {gpu['total_mib']} MiB, {gpu['used_mib']} MiB used before"
    yield f"model: {result['model parameters'] / 1e9:.3g} billion parameters, random weights"
    yield f"{'trial':>5}  {'tokens/s':>9}  {'TTFT (s)':>9}  {'TPOT (s)':>9}  {'errors':>6}  level, overrides"
    for trial in result["trials"]:
        for level, seen in trial["levels"].items():
            numbers = (seen["output_tokens_per_s"], seen["ttft_mean_s"], seen["tpot_mean_s"])
            shown = "  ".join(f"{'-' if number is None else number:>9}" for number in numbers)
            yield f"{trial['trial']:>5}  {shown}  {seen['errors']:>6}  {level}, {trial['overrides']}"
        if not trial["levels"]:
            yield f"{trial['trial']:>5}  {trial['status']}: {trial['failure']}; {trial['overrides']}"
    yield f"slots: {'; '.join(str(trial['slots']) for trial in result['trials'])}"
    for when in ("after the sweep", "after SIGKILL"):
        yield f"{when}: {', '.join(f'{what}: {seen}' for what, seen in result[when].items())}"
    yield f"seconds: {', '.join(f'{step} {seconds}' for step, seconds in result['seconds'].items())}"
    if told := result.get("stubbed, never called"):
        yield f"stubbed, never called: {', '.join(told)}"
    yield from result["problems"]
    yield "all is well" if result["ok"] else "NOT all is well"
