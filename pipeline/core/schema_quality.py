"""The group `quality` of the configuration: whether and how a trial's answers are held against the baseline's."""

from typing import Literal

from pydantic import Field

from pipeline.core.schema_evals import Evals
from pipeline.core.values import value

# How an engine tells what it expects at each place of a given text (pipeline/engines/answering.py)
Reads = Literal["none", "vllm", "sglang"]


@value
class Quality:
    """How answers are looked at. Nothing here changes a measurement."""

    name: str
    kind: Literal["none", "guard"]
    always: bool = False  # also where no setting that the sweep varies can change answers
    min_agreement: float = Field(default=0.9, ge=0, le=1)  # below it, a configuration that differs cannot win
    budget_s: float = Field(default=10.0, gt=0)  # of a trial; or the share, where that is more
    budget_share: float = Field(default=0.05, ge=0, le=1)  # of the time that the trial has taken so far
    evals: Evals = Evals()  # at the end of a sweep


OFF = Quality(name="none", kind="none")  # of records that are older than the guard
