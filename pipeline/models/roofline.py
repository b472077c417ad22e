"""How near a level came to what the GPUs can do at most: their memory's bandwidth, their arithmetic. Pure.

The same sums as in estimate.py, with what was measured in place of guesses: the least that must be read and computed
for the tokens that came. What an engine does beside it (padding, communication, sampling) is not in it.
"""

from pipeline.core.record import Level
from pipeline.core.schema import Config
from pipeline.core.values import Scalar
from pipeline.models import kv_cache, memory
from pipeline.models.estimate import GIGA, TERA, touched


def bandwidth_share(config: Config, level: Level) -> float | None:
    """The share of the GPUs' memory bandwidth that decoding took; None where a number is missing.

    Each step reads the weights that its batch uses, and the KV cache of its requests. With speculative decoding a step
    makes an unknown number of tokens. Source: as estimate.step_s.
    """
    arch, limit, metrics, told = (
        config.model.arch,
        config.hardware.memory_bandwidth_gb_s,
        level.metrics,
        level.engine_metrics,
    )
    if arch is None or limit is None or metrics is None or (told and (told.drafted_tokens or told.accept_rate)):
        return None
    spread = memory.parallelism(config, config.knobs)
    running = (told.running_mean if told else None) or _open(level)
    size = kv_cache.element_bytes(_kv_dtype(config), arch)
    if size is None or not config.gpus or arch.weights_gib is None or arch.caches is None:
        return None
    batch = max(1, round(running / spread.data))
    context = metrics.input_tokens_mean + metrics.output_tokens_mean / 2
    cache = batch * kv_cache.request_bytes(kv_cache.Share(arch=arch, size=size), context)
    step = arch.weights_gib * memory.GIB * touched(arch, batch) + cache
    steps_per_s = metrics.output_tokens_per_s / max(1.0, running)  # of each replica
    return steps_per_s * step * spread.data / (limit * GIGA * config.gpus)


def _open(level: Level) -> float:
    """Requests that are open at a time: the users, or as many as were seen."""
    return level.arrivals.in_flight_mean if level.arrivals else level.concurrency


def arithmetic_share(config: Config, level: Level) -> float | None:
    """The share of the GPUs' dense 16-bit arithmetic that the tokens took; None where a number is missing.

    Source: as estimate.prefill_s. Tokens that the prefix cache held were not computed.
    """
    arch, limit, metrics = config.model.arch, config.hardware.bf16_tflops, level.metrics
    if arch is None or limit is None or metrics is None or not config.gpus or not arch.active_parameters_b:
        return None
    hits = (level.engine_metrics.prefix_hit_rate if level.engine_metrics else None) or 0.0
    tokens_per_s = metrics.input_tokens_per_s * (1 - hits) + metrics.output_tokens_per_s
    return 2 * arch.active_parameters_b * GIGA * tokens_per_s / (limit * TERA * config.gpus)


def _kv_dtype(config: Config) -> Scalar | None:
    name = config.runtime.memory.kv_dtype if config.runtime.memory else None
    return config.knobs.get(name) if name else None
