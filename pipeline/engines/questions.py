"""The questions and passages of the quality guard, shipped as data."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from pipeline.core.values import parse, value

FILE = Path(__file__).with_suffix(".yaml")


@value
class Questions:
    """A set of them, by name."""

    version: int
    max_tokens: int
    questions: Mapping[str, str]
    passages: Mapping[str, str]


@cache
def load() -> Questions:
    """The set of this version of servetune."""
    return parse(Questions, yaml.safe_load(FILE.read_text("utf-8")))
