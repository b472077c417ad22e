"""Estimates how long a trial will take, from data sheets. Pure. Good for planning; not a prediction.

A roofline model: prefill is compute-bound, decoding is bound by memory bandwidth. It ignores the engine's scheduling,
communication between GPUs, prefix caches and speculation; expect a factor of two either way.
"""

import math
from itertools import product

from pipeline.core import capacity, traffic_size
from pipeline.core.schema import Config
from pipeline.core.schema_hardware import Hardware
from pipeline.core.schema_model import Architecture
from pipeline.core.values import value
from pipeline.models import kv_cache, memory

LOAD_GIB_PER_S = 1.5  # a guess: GLM-4.6-FP8's 337 GiB were seen to take 3 to 5 minutes from local disks
PREFILL_EFFICIENCY = 0.5  # a guess, of the data sheet's arithmetic
DECODE_EFFICIENCY = 0.6  # a guess, of the data sheet's bandwidth
STEP_S = 0.004  # a guess: what a decoding step takes however small the model (launches, sampling, scheduling)
TERA, GIGA = 1e12, 1e9


@value
class Estimate:
    """Seconds. `load_s`, `levels` and `total_s` are None where the model's or the GPU's numbers are not known."""

    load_s: float | None
    levels: tuple[float, ...] | None  # in the order of traffic.scenarios, and of the concurrencies within each
    total_s: float | None
    at_most_s: float  # if getting ready, warming and each level need all of their time


def estimate(config: Config) -> Estimate:
    """The time of one trial, or at least the most that it may take."""
    traffic, arch = config.traffic, config.model.arch
    ladder = tuple(product(traffic.scenarios, capacity.ladder(traffic)))
    at_most = _at_most_s(config)
    if arch is None or arch.weights_gib is None:
        return Estimate(load_s=None, levels=None, total_s=None, at_most_s=at_most)
    load = min(config.runtime.startup_s + arch.weights_gib / LOAD_GIB_PER_S, config.runtime.health.timeout_s)
    known = (config.hardware.memory_bandwidth_gb_s, config.hardware.bf16_tflops, arch.active_parameters_b, arch.caches)
    if None in known:
        return Estimate(load_s=load, levels=None, total_s=None, at_most_s=at_most)
    levels = tuple(min(level_s(config, arch, *each), traffic.max_time_per_level_s) for each in ladder)
    return Estimate(load_s=load, levels=levels, total_s=load + sum(levels), at_most_s=at_most)


def _at_most_s(config: Config) -> float:
    """Without what comes before the server starts, and levels that are measured again."""
    traffic, warmup_s = config.traffic, config.timeouts.warmup_s
    is_warm = traffic.cache == "warm"
    each_s = traffic.max_time_per_level_s + traffic.drain_s + (warmup_s if is_warm else 0.0)
    return (
        config.runtime.health.timeout_s
        + (warmup_s if traffic.warmup_requests else 0.0)
        + capacity.most_levels(traffic) * each_s
    )


def level_s(config: Config, arch: Architecture, line: str, demand: float) -> float:
    """Waves of requests, one of each user, prefilled and then decoded together; replicas share them out.

    At a rate the sending takes its time, and one more request after it.
    """
    traffic = config.traffic
    concurrency = 1 if traffic.is_open else demand
    spread = memory.parallelism(config, config.knobs)
    gpus = spread.tensor * spread.pipeline
    tokens = traffic_size.mean(traffic, line)
    batch = math.ceil(concurrency / spread.data)
    waves = 1.0 if traffic.is_open else traffic.requests(demand) / demand
    sending = traffic.requests(demand) / demand if traffic.is_open else 0.0
    prefill = batch * prefill_s(arch, config.hardware, gpus, tokens.input)
    step = step_s(arch, config.hardware, gpus, batch, tokens.input + tokens.output / 2)
    return sending + waves * (prefill + tokens.output * step)


def prefill_s(arch: Architecture, hardware: Hardware, gpus: int, tokens: float) -> float:
    """Two operations for each parameter and token; attention's own are left out, as short prompts allow.

    Source: Kaplan et al., arXiv 2001.08361, table 1.
    """
    operations = 2 * (arch.active_parameters_b or 0) * GIGA * tokens
    return operations / ((hardware.bf16_tflops or 0) * TERA * gpus * PREFILL_EFFICIENCY)


def step_s(arch: Architecture, hardware: Hardware, gpus: int, batch: int, context: float) -> float:
    """One token for each request of the batch: whichever is slower, reading weights and KV cache, or arithmetic.

    Source: Pope et al., Efficiently Scaling Transformer Inference, arXiv 2211.05102, section 2.
    """
    weights = (arch.weights_gib or 0) * memory.GIB * touched(arch, batch)
    cache = batch * kv_cache.request_bytes(kv_cache.Share(arch=arch, size=kv_cache.BYTES[arch.dtype]), context)
    reading = (weights + cache) / ((hardware.memory_bandwidth_gb_s or 0) * GIGA * gpus)
    computing = 2 * (arch.active_parameters_b or 0) * GIGA * batch / ((hardware.bf16_tflops or 0) * TERA * gpus)
    return STEP_S + max(reading, computing) / DECODE_EFFICIENCY


def touched(arch: Architecture, batch: int) -> float:
    """The share of the weights that a batch reads: all of a dense model, of experts those that some token chose.

    A token chooses k of n experts; taken as even and independent, a batch of b misses one with (1 - k / n) ** b.
    """
    if not arch.experts or not arch.experts_per_token or arch.experts == arch.experts_per_token:
        return 1.0
    if not arch.parameters_b or not arch.active_parameters_b:
        return 1.0
    chosen = arch.experts_per_token / arch.experts
    experts = (1 - arch.active_parameters_b / arch.parameters_b) / (1 - chosen)
    return 1 - experts * (1 - chosen) ** batch
