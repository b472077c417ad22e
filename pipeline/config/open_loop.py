"""Refuses settings of an open loop that contradict each other, or what measures; names idle ones. Pure."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from hydra.core.override_parser.types import Override

from pipeline.config import own_traffic
from pipeline.core import capacity
from pipeline.core.errors import ConfigError
from pipeline.core.limits import LONGEST_S
from pipeline.core.schema import Config
from pipeline.core.schema_traffic import ARRIVALS_S, MOST_RATE, MOST_USERS, PRECISION, RATE_STEP, Traffic

USERS, RATES = "traffic.concurrencies", "traffic.rates"
MOST = 1_000_000  # requests of a level: each has its time and its prompt before the level begins
MOST_STEPS = 2_000_000  # rates that `capacity` may choose among: each of them has prompts of its own
FINEST = 1e-6  # step between them
SAME = 1e-6  # apart: numbers are told to six digits
EXAMPLE = "traffic.arrival=poisson"
USUAL = {  # settings that some traffics do not read, as they are where nobody sets them
    "max_concurrency": MOST_USERS,
    "max_rate": MOST_RATE,
    "rate_step": RATE_STEP,
    "precision": PRECISION,
    "arrivals_s": ARRIVALS_S,
}


def check_words(given: Iterable[Override]) -> None:
    """Refuse a command that asks for users and for rates.

    Raises:
        ConfigError: it names both.
    """
    named = {each.get_key_element() for each in given}
    if {USERS, RATES} <= named:
        raise ConfigError(
            f"Set one of {USERS} and {RATES}: users send when they have their answers, a rate does not wait for any."
        )


def check(traffic: Traffic) -> None:
    """Accept a closed loop, or an open one with what it takes.

    Raises:
        ConfigError: with the key, and what to set instead.
    """
    if why := next(_faults(traffic), None):
        raise ConfigError(why)


def check_runner(config: Config) -> None:
    """Accept a load generator that can send at a rate.

    Raises:
        ConfigError: with what to set instead.
    """
    way = own_traffic.way_of(config)
    if config.bench.runner == "aiperf" and way == "cluster":
        raise ConfigError("bench.runner=aiperf measures on this machine: set bench.location=here.")
    if way == "aiperf" and config.traffic.max_in_flight is not None:
        raise ConfigError("traffic.max_in_flight cannot be kept with bench.runner=aiperf. Set bench.runner=resident.")
    if config.traffic.is_open and way in {"cli", "cluster"}:
        key, instead = (
            ("bench.runner=cli", "bench.runner=resident")
            if way == "cli"
            else ("bench.location=cluster", "bench.location=here")
        )
        raise ConfigError(
            f"traffic.arrival={config.traffic.arrival} cannot be measured with {key}: genai-bench itself has no rates, "
            f"only users. Set {instead}."
        )


def check_time(traffic: Traffic) -> None:
    """Refuse levels that cannot be sent in their time, once the file of arrival times is read.

    Raises:
        ConfigError: naming the rate.
    """
    if not traffic.is_open:
        return
    for rate in traffic.demands:
        count = traffic.requests(min(rate, MOST + 1.0))
        if count > MOST:
            raise ConfigError(
                f"{RATES}: at {rate:g} requests/s a level has more than {MOST} requests, and at most {MOST} are sent. "
                f"Lower {_length(traffic, rate)}."
            )
        if count / rate > traffic.max_time_per_level_s:
            raise ConfigError(
                f"{RATES}: {count} requests at {rate:g} requests/s take {_seconds(count / rate)} s, and "
                f"traffic.max_time_per_level_s={traffic.max_time_per_level_s:g}. Raise it, or lower "
                f"{_length(traffic, rate)}."
            )


def told(traffic: Traffic) -> Iterator[str]:
    """What is set and makes no difference, or another one than it says."""
    for name, usual in USUAL.items():
        if (seen := getattr(traffic, name)) != usual and (where := _read_with(traffic, name)):
            yield f"traffic.{name}={seen:g} makes no difference here: it goes with {where}"
    if traffic.is_open and capacity.is_wanted(traffic):
        asked = (max if traffic.order == "busiest_first" else min)(traffic.rates)
        first = capacity.start(traffic, traffic.scenarios[0], None)
        if abs(first - asked) > SAME * asked:
            yield (
                f"{RATES}: {asked:g} is no multiple of traffic.rate_step={traffic.rate_step:g}, and "
                f"traffic.levels=capacity tries nothing else: the first is {first:g} requests/s"
            )


def _read_with(traffic: Traffic, name: str) -> str | None:
    """With which settings this one counts; None: with these."""
    if name == "arrivals_s":
        is_timed = traffic.arrival in {"constant", "poisson"}
        return None if is_timed else f"{RATES} and traffic.arrival=constant or poisson"
    if not capacity.is_wanted(traffic):
        return "traffic.levels=capacity"
    if name in {"max_rate", "rate_step"} and not traffic.is_open:
        return f"{RATES}; users have traffic.max_concurrency"
    if name == "max_concurrency" and traffic.is_open:
        return f"{USERS}; rates have traffic.max_rate"
    return None


def _seconds(number: float) -> str:
    """Without three hundred digits."""
    return f"{number:.0f}" if number < LONGEST_S else f"{number:.3g}"


def _length(traffic: Traffic, rate: float) -> str:
    """What makes a level as long as it is."""
    if traffic.arrival == "trace":
        return "the number of arrivals"
    return "traffic.arrivals_s" if traffic.arrivals_s * rate > traffic.min_requests else "traffic.min_requests"


def _faults(traffic: Traffic) -> Iterator[str]:
    if traffic.recorded is not None:
        yield "traffic.recorded is what servetune has read in traffic.trace: it cannot be set."
    if not traffic.is_open:
        yield from _closed(traffic)
        return
    if traffic.arrival == "trace" and traffic.trace is None:
        yield "traffic.trace has no value: add traffic.trace=arrivals.txt, the file that traffic.arrival=trace takes."
    if traffic.arrival != "trace" and traffic.trace is not None:
        yield f"traffic.trace={traffic.trace} goes with traffic.arrival=trace, not {traffic.arrival}."
    if traffic.arrival != "trace" and not traffic.rates:
        yield f"{RATES} has no value: add {RATES}=[1,2,4], requests per second, for traffic.arrival={traffic.arrival}."
    spelled = [f"{rate:g}" for rate in traffic.rates]
    if wrong := next((pair for pair in pairwise(traffic.rates) if pair[1] <= pair[0]), None):
        yield f"{RATES}=[{','.join(spelled)}]: {wrong[1]:g} comes after {wrong[0]:g}. Expected rising rates."
    if twice := next((one for one in spelled if spelled.count(one) > 1), None):
        yield f"{RATES}: {twice} is there twice, to six digits; each level is measured once."
    if traffic.levels == "capacity":
        yield from _capacity(traffic)


def _closed(traffic: Traffic) -> Iterator[str]:
    if traffic.rates:
        yield f"{RATES} needs an open loop, in which nobody waits for answers: add {EXAMPLE} (or constant, or trace)."
    if traffic.trace is not None:
        yield f"traffic.trace={traffic.trace} goes with traffic.arrival=trace."
    if traffic.max_in_flight is not None:
        yield f"traffic.max_in_flight is for an open loop ({EXAMPLE}): users have one request open each."


def _capacity(traffic: Traffic) -> Iterator[str]:
    if traffic.arrival == "trace":
        yield "traffic.levels=capacity needs traffic.arrival=constant or poisson: a trace has its own length."
    if traffic.max_rate < traffic.rate_step:
        yield f"traffic.max_rate={traffic.max_rate:g} is less than traffic.rate_step={traffic.rate_step:g}."
    if traffic.rate_step < FINEST:
        yield f"traffic.rate_step={traffic.rate_step:g}: expected {FINEST:g} or more."
    if traffic.max_rate > MOST_STEPS * traffic.rate_step:
        yield (
            f"traffic.rate_step={traffic.rate_step:g} makes more than {MOST_STEPS} rates up to "
            f"traffic.max_rate={traffic.max_rate:g}. Raise it, or lower traffic.max_rate."
        )
    if any(rate > traffic.max_rate for rate in traffic.rates):
        yield f"{RATES}: {traffic.rates[-1]:g} is more than traffic.max_rate={traffic.max_rate:g}."
