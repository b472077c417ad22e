"""Runs in SGLang's own interpreter: what SGLang itself makes of command lines, without starting a server.

argv: see sglang_gpus.py; standard input and output: see oracle_lines.py. Asked is, as a start does it: `ServerArgs`
(prepare_server_args, resolve_once, check_server_args), then what a scheduler refuses before it loads weights: ranks
without a GPU, heads, quantisation, attention kernels, schedule policy.
"""

# What only the engine's environment has cannot be checked here.
# mypy: ignore-errors
import logging
import os
import sys
import types
from typing import Any

import sglang_gpus  # before SGLang
import torch
from oracle_lines import answer
from sglang.srt.arg_groups.overrides import attention_backends_of, model_config_of, resolved_view
from sglang.srt.configs.load_config import LoadConfig
from sglang.srt.distributed.utils import divide
from sglang.srt.layers.attention import hpc_ops_backend
from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.model_loader import loader
from sglang.srt.runtime_context import SpawnRanks, get_parallel, publish, restore_context, snapshot_context
from sglang.srt.server_args import prepare_server_args

KV_TYPES = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
REFUSALS = (AssertionError, ValueError, RuntimeError)


def ask(words: list[str]) -> None:
    """Raise what SGLang would."""
    environment = dict(os.environ)
    before = snapshot_context()
    try:
        arguments = prepare_server_args(words)
        logging.disable(logging.CRITICAL)
        arguments.resolve_once()
        arguments.check_server_args()
        publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
        schedule(arguments)
    finally:
        restore_context(before)
        os.environ.clear()
        os.environ.update(environment)


def schedule(arguments: Any) -> None:
    """What a scheduler refuses."""
    cfg, model = resolved_view(arguments), model_config_of(arguments)
    is_gpu = sglang_gpus.PLATFORM != "cpu"
    if is_gpu and cfg.dp_size * cfg.tp_size * cfg.pp_size > sglang_gpus.GPUS:  # entrypoints/engine.py:935
        raise RuntimeError("CUDA error: invalid device ordinal")
    if is_gpu:  # there heads are padded: configs/update_config.py:226
        heads(model, get_parallel().attn_tp_size)
    if cfg.quantization:
        loader._get_quantization_config(model, LoadConfig(load_format=cfg.load_format))
    kernels(arguments, model)
    policy = types.SimpleNamespace()
    SchedulePolicy._validate_and_adjust_policy(
        policy, cfg.schedule_policy, types.SimpleNamespace(disable=cfg.disable_radix_cache)
    )


def heads(model: Any, ranks: int) -> None:
    """layers/linear.py:1139."""
    divide(model.num_attention_heads, ranks)
    shared = model.get_total_num_kv_heads()
    divide(*((ranks, shared) if ranks >= shared else (shared, ranks)))


def kernels(arguments: Any, model: Any) -> None:
    """Begin to make the kernels: what they refuse comes first, what they need of a loaded model is not there."""
    cfg = resolved_view(arguments)
    runner = types.SimpleNamespace(
        server_args=arguments,
        model_config=model,
        use_mla_backend=False,
        page_size=cfg.page_size,
        kv_cache_dtype=KV_TYPES.get(cfg.kv_cache_dtype, torch.bfloat16),
        spec_algorithm=types.SimpleNamespace(is_speculative=lambda: cfg.speculative_algorithm is not None),
    )
    hpc_ops_backend.has_hpc_ops = lambda: True
    for name in set(attention_backends_of(cfg)):
        try:
            ATTENTION_BACKENDS[name](runner)
        except REFUSALS:
            raise
        except Exception as error:  # noqa: BLE001  # the played runner's limits
            print(name, type(error).__name__, error, file=sys.stderr)


answer(ask)
