"""The load: what requests are made of, how many there are, and how warm the cache is that they meet."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.arrivals import How
from pipeline.core.values import value

MOST_USERS, MOST_RATE, RATE_STEP, PRECISION, ARRIVALS_S = 1024, 1024, 0.1, 0.05, 60  # where nobody sets them
OF_THE_TIME = 0.8  # of a level's, in which a rate that `capacity` tries sends its requests: answers take the rest
DATASET = "dataset"  # the scenario of prompts from a file, in genai-bench's own word
# genai-bench 0.0.5, scenarios/text.py and base.py
SCENARIO = rf"^(D\(\d+,\d+\)|N\(\d+,\d+\)/\(\d+,\d+\)|U\(\d+,\d+\)(/\(\d+,\d+\))?|{DATASET})$"


@value
class Dataset:
    """What is in the file of prompts. Written by the pipeline when it has read it, never by hand."""

    sha256: str  # of the whole file
    in_file: int  # prompts that can be sent
    prompts: int  # of those, the ones that traffic.sample took
    left_out: int  # conversations in which nobody asks
    input_tokens_mean: float
    input_tokens_longest: int
    output_tokens_mean: float
    output_tokens_longest: int
    longest_tokens: int  # of one request, prompt and answer
    longest_at: int  # the line or item of the file where that is
    least_tokens: int  # of one request
    is_counted: bool  # with the model's own tokenizer, the mean by a sample; False: by the length of the text
    shared_prefix: float  # share of the text that begins another prompt of the file as well


@value
class Trace:
    """What is in the file of arrival times. Written by the pipeline when it has read it, never by hand."""

    sha256: str  # of the whole file
    arrivals: int
    rate: float  # requests per second, the mean


@value
class Traffic:
    """The load: scenarios times concurrencies, or times rates.

    A level sends max(min_requests, requests_per_user * concurrency), or max(min_requests, arrivals_s * rate), or as
    many as were recorded. A rate that `capacity` tries sends what it can in its time.
    """

    name: str
    scenarios: tuple[Annotated[str, Field(pattern=SCENARIO)], ...] = Field(min_length=1)
    concurrencies: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    min_requests: int = Field(gt=0)
    requests_per_user: int = Field(gt=0)
    # closed: a user sends when the answer before has come; else requests are sent at traffic.rates, whatever is open
    arrival: Literal["closed", How] = "closed"
    rates: tuple[Annotated[float, Field(gt=0)], ...] = ()  # requests per second; one level each
    arrivals_s: float = Field(default=ARRIVALS_S, gt=0)  # for how long a level sends requests at its rate
    max_in_flight: int | None = Field(default=None, gt=0)  # requests that may be open at once; None: any number
    trace: Path | None = None  # a file of arrival times
    recorded: Trace | None = None  # of the file that was read
    max_time_per_level_s: float = Field(gt=0)  # then no new request begins, and the level is cut
    drain_s: float = Field(default=10.0, ge=0)  # for the requests that are then open to finish
    warmup_requests: int = Field(ge=0)
    seed: int = Field(ge=0)
    order: Literal["rising", "busiest_first"] = "rising"  # of the concurrencies; busiest_first fails fast
    all_levels: bool = False  # False: after a clearly overloaded level, higher concurrencies are skipped
    levels: Literal["given", "capacity"] = "given"  # capacity: each trial looks for the most users that it can have
    max_concurrency: int = Field(default=MOST_USERS, gt=0)  # the most users that `capacity` tries
    precision: float = Field(default=PRECISION, gt=0, lt=1)  # of the users, or of the rate, that `capacity` finds
    max_rate: float = Field(default=MOST_RATE, gt=0)  # the highest that `capacity` tries, in requests per second
    rate_step: float = Field(default=RATE_STEP, gt=0)  # `capacity` tries multiples of it
    # The prefix cache when a level's clock starts. cold: nothing of the level is in it. warm: what requests share is
    cache: Literal["cold", "warm"] = "cold"
    # Prompts of the scenarios begin alike: the first so many tokens, or this share of each prompt
    prefix_tokens: int | None = Field(default=None, gt=0)
    prefix_ratio: float | None = Field(default=None, gt=0, lt=1)
    prefixes: int = Field(default=1, gt=0)  # different beginnings, each used equally often
    # Prompts of a file
    path: Path | None = None
    format: Literal["auto", "jsonl", "json", "csv", "text"] = "auto"  # auto: by the file's name
    prompt_field: str | None = None  # field or column; dots lead into objects. None: looked for by the usual names
    output_field: str | None = None  # the recorded answer, or its number of tokens. None: looked for likewise
    output_tokens: int | None = Field(default=None, gt=0)  # of every answer; None: as in the file
    ignore_eos: bool = False  # answers go on past the stop token, until they have the tokens asked for
    sample: int | None = Field(default=None, gt=0)  # prompts to take, by traffic.seed; None: all
    max_file_mb: float = Field(default=100, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,64}$")  # the file must begin with it; None: any
    dataset: Dataset | None = None  # of the file that was read

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at a rate, whatever is still open."""
        return self.arrival != "closed"

    @property
    def demands(self) -> tuple[float, ...]:
        """What the levels differ in: users at a time, or requests per second."""
        if not self.is_open:
            return self.concurrencies
        return self.rates or ((self.recorded.rate,) if self.recorded else ())

    @property
    def most_open(self) -> int:
        """Requests that are certainly open at once at the busiest level; of an open loop that is not known."""
        return 1 if self.is_open else max(self.concurrencies)

    @property
    def most_demand(self) -> float:
        """The highest demand that `capacity` tries."""
        return self.max_rate if self.is_open else self.max_concurrency

    def requests(self, demand: float) -> int:
        """How many requests a level sends."""
        if self.recorded and self.arrival == "trace":
            return self.recorded.arrivals
        if not self.is_open:
            return max(self.min_requests, self.requests_per_user * int(demand))
        in_time = self.max_time_per_level_s * demand if self.levels == "capacity" else math.inf
        return math.ceil(min(max(self.min_requests, self.arrivals_s * demand), OF_THE_TIME * in_time) - 1e-9)

    def at(self, steps: int) -> float:
        """The demand at a step of `capacity`: a user, or `rate_step`."""
        return round(steps * self.rate_step, 9) if self.is_open else steps

    def steps(self, demand: float) -> int:
        """The step of `capacity` that is nearest."""
        return max(1, round(demand / self.rate_step)) if self.is_open else int(demand)

    @property
    def identity(self) -> "Traffic":
        """What decides which requests are sent: files by what is in them, wherever they lie."""
        bare = replace(self, trace=None)
        if self.dataset is None:
            return bare
        return replace(bare, path=None, max_file_mb=1, dataset=None, sha256=self.dataset.sha256)

    @property
    def has_prefix(self) -> bool:
        """Whether drawn prompts begin alike."""
        return self.prefix_tokens is not None or self.prefix_ratio is not None

    @property
    def is_own(self) -> bool:
        """Whether the prompts come from a file of the user's."""
        return self.path is not None

    @property
    def goes_past_stop(self) -> bool:
        """Whether engines that can are told to ignore stop tokens: always with drawn prompts, as genai-bench does."""
        return self.ignore_eos or not self.is_own
