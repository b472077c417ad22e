"""How the stand-in fails: STANDIN_FAULT=<name>[:argument]."""

import os
import sys
from dataclasses import dataclass

DEFAULTS: dict[str, float] = {
    "none": 0,
    "slow_start": 2,  # seconds: SGLang answers 503 meanwhile, vLLM does not listen yet
    "hang_at_start": 0,  # never listens
    "oom_at_load": 0,
    "oom_under_load": 4,  # after so many answered requests
    "dies_under_load": 4,  # after so many answered requests
    "overload": 4,  # refuses above so many requests at once
    "hang": 0,  # after so many answered requests: takes requests and never answers
    "rejects": 0,  # 400 for every completion
    "wrong_tokens": 0,  # stops half way although ignore_eos
    "slow_stop": 2,  # seconds between SIGTERM and the end
    "ignores_term": 0,
}


@dataclass(frozen=True)
class Fault:
    """One way to fail and its number."""

    name: str
    argument: float

    def number(self, name: str) -> float | None:
        """The argument if this is the fault `name`."""
        return self.argument if self.name == name else None


def parse(text: str) -> Fault:
    """The fault that `name[:argument]` names.

    Raises:
        ValueError: there is no such fault, or the argument is no number.
    """
    name, _, argument = text.partition(":")
    if name not in DEFAULTS:
        raise ValueError(f"STANDIN_FAULT={text}: no such fault; there are {', '.join(DEFAULTS)}")
    try:
        return Fault(name, float(argument) if argument else DEFAULTS[name])
    except ValueError as error:
        raise ValueError(f"STANDIN_FAULT={text}: {argument} is no number") from error


def from_environment() -> Fault:
    """What STANDIN_FAULT says; ends the program where it says nonsense: a test must not pass by a typing error."""
    try:
        return parse(os.environ.get("STANDIN_FAULT") or "none")
    except ValueError as error:
        sys.exit(f"stand-in: {error}")
