"""How an engine is talked to: values of `conf/runtime/` that pipeline.core.schema.Runtime consists of."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.core.values import Scalar, value


@value
class Health:
    """How to tell that the server is ready."""

    path: str
    timeout_s: float = Field(gt=0)
    interval_s: float = Field(gt=0)


@value
class Memory:
    """Which knobs decide how an engine divides a GPU's memory; read by the memory check before deploying."""

    plan: Literal["sglang", "vllm"]  # whose memory model to use: pipeline/models/memory.py
    fraction: str  # knob: the share of the GPU's memory that the engine may use
    kv_dtype: str
    context: str
    max_requests: str


@value
class Extras:
    """Variables and flags that the engine gets for a while: filled in as `Runtime.command` is."""

    env: Mapping[str, str] = Field(default_factory=dict)
    args: tuple[str, ...] = ()


@value
class Series:
    """A metric of an engine's Prometheus text, in some versions of the engine; in YAML, its name alone will do."""

    name: str
    versions: str = ""  # a PEP 440 range; empty: all
    labels: Mapping[str, str] = Field(default_factory=dict)  # only what has these
    copies: tuple[str, ...] = ()  # labels of processes that tell the same again, e.g. one for each rank
    starts_absent: bool = False  # a counter that is not there before it first counts


def _series(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


Names = tuple[Annotated[Series, BeforeValidator(_series)], ...]  # by preference


@value
class MetricNames:
    """What an engine calls the metrics that say what limits it. Empty: it has no such metric.

    Counters may only grow. Times are histograms of seconds per request, or counters of seconds over all requests.
    """

    running: Names = ()  # gauges: requests in the batch
    waiting: Names = ()  # requests that are not
    kv_use: Names = ()  # share of the KV cache, 0 to 1; of several engines behind one port, the fullest
    accept_rate: Names = ()  # share of the drafted tokens that the model accepts
    requests: Names = ()  # counters: finished requests
    prompt_tokens: Names = ()  # of them, with those that were cached
    uncached_tokens: Names = ()  # prompt tokens that were computed
    output_tokens: Names = ()
    preemptions: Names = ()
    cache_queries: Names = ()  # prompt tokens that were looked for in the prefix cache; empty: all of them
    cached_tokens: Names = ()  # those that were found
    drafted_tokens: Names = ()
    accepted_tokens: Names = ()
    queue: Names = ()  # times
    prefill: Names = ()
    decode: Names = ()


@value
class Tells:
    """What an engine tells of itself beside its settings, and at which HTTP path."""

    version_path: str | None = None  # JSON
    version_field: str = "version"
    settings_help: str = ""  # what may be missing where it does not tell its settings
    metrics_path: str | None = None  # Prometheus text
    ttft: tuple[str, ...] = ()  # its histograms of seconds, by preference; a name is another one in other versions
    tpot: tuple[str, ...] = ()
    metrics: MetricNames = MetricNames()
    no_prefix_cache: Mapping[str, Scalar] = Field(default_factory=dict)  # knobs, with the value that turns it off
