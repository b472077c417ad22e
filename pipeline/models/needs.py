"""A trial's memory in one line, for showing before anything is deployed. Pure."""

from pipeline.core.schema import Config
from pipeline.models import kv_cache, memory
from pipeline.models.kv_cache import Knobs


def told(config: Config, knobs: Knobs) -> str | None:
    """What one GPU needs, the fullest of several; None where it is not computed. `knobs`: after rewriting."""
    found, arch = memory.need(config, knobs), config.model.arch
    if found is None or arch is None:
        return None
    if arch.caches is None:
        return f"{memory.loaded(found)} + reserve {found.reserve_gib:.1f} GiB per GPU; KV cache: not known"
    states = kv_cache.state_bytes(kv_cache.Share(arch=arch, size=1.0, spread=memory.parallelism(config, knobs)))
    kept = "KV cache and states" if states else "KV cache"
    load = f"{found.requests} x {found.request_tokens} tokens"
    return (
        f"{memory.loaded(found)} + {kept} {found.kv_gib:.2f} ({load}) + "
        f"reserve {found.reserve_gib:.1f} = {found.total_gib:.1f} of {found.gpu_gib:.1f} GiB per GPU"
    )
