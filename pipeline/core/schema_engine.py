"""How an engine is talked to: values of `conf/runtime/` that pipeline.core.schema.Runtime consists of."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pipeline.core.values import value


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
class Tells:
    """What an engine tells of itself beside its settings, and at which HTTP path."""

    version_path: str | None = None  # JSON
    version_field: str = "version"
    settings_help: str = ""  # what may be missing where it does not tell its settings
    metrics_path: str | None = None  # Prometheus text
    ttft: tuple[str, ...] = ()  # its histograms of seconds, by preference; a name is another one in other versions
    tpot: tuple[str, ...] = ()
