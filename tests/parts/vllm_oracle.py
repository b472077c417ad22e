"""Runs in vLLM's own interpreter: what vLLM itself makes of command lines, without starting a server.

argv: `cpu`, or a compute capability like `9.0`, for which NVIDIA's platform is put in with 8 GPUs of 80 GiB. Standard
input and output: see oracle_lines.py. Two steps are asked: the engine's configuration (`create_engine_config`), and the
choice of attention kernels and their block size, which a worker makes (vllm/v1/attention/selector.py,
v1/worker/utils.py).
"""

# What only the engine's environment has cannot be checked here.
# mypy: ignore-errors
import contextlib
import os
import sys
import types
from typing import Any

os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}

import torch
from oracle_lines import answer
from vllm import platforms
from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.worker.utils import select_common_block_size  # before a GPU is played: it compiles kernels

GIB = 1 << 30
EXTENSIONS = (
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)


def parser() -> Any:
    """The parser of `vllm serve`."""
    from vllm.entrypoints.cli import serve

    return serve.make_arg_parser(FlexibleArgumentParser(exit_on_error=False))


def play(capability: tuple[int, ...]) -> None:
    """NVIDIA's platform in place of the CPU's, wherever it was imported already."""
    for name in EXTENSIONS:
        sys.modules.setdefault(name, types.ModuleType(name))
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    methods = {
        "get_device_capability": lambda _cls, *_which, **_named: DeviceCapability(*capability),
        "get_device_name": lambda _cls, *_which, **_named: "NVIDIA H100 80GB HBM3",
        "get_device_total_memory": lambda _cls, *_which, **_named: 80 * GIB,
        "get_device_uuid": lambda _cls, *_which, **_named: "GPU-0",
        "is_fully_connected": lambda _cls, *_which, **_named: True,
        "device_count": lambda _cls: 8,
    }
    played = type("Played", (CudaPlatformBase,), {name: classmethod(one) for name, one in methods.items()})()
    before = platforms.current_platform
    platforms._current_platform = played
    for name, module in list(sys.modules.items()):
        if name.startswith("vllm") and vars(module).get("current_platform") is before:
            module.current_platform = played
    torch.cuda.device_count = lambda: 8
    for name in (
        "cutlass_scaled_mm_supports_fp8",
        "cutlass_scaled_mm_supports_block_fp8",
        "cutlass_group_gemm_supported",
    ):
        setattr(torch.ops._C, name, lambda number: number >= 90)


def ask(parse: Any, words: list[str]) -> None:
    """Raise what vLLM would."""
    arguments = parse.parse_args(words)
    attention(AsyncEngineArgs.from_cli_args(arguments).create_engine_config(UsageContext.OPENAI_API_SERVER))


def attention(config: Any) -> None:
    """Choose the kernels for the model's layers, as model_executor/layers/attention/attention.py does."""
    from vllm.v1.attention import selector

    model = config.model_config
    for name in ("_cached_get_attn_backend",):
        with contextlib.suppress(AttributeError):
            getattr(selector, name).cache_clear()
    with set_current_vllm_config(config):
        kernels = selector.get_attn_backend(
            model.get_head_size(),
            model.dtype,
            config.cache_config.cache_dtype,
            use_mla=model.use_mla,
            num_heads=model.get_num_attention_heads(config.parallel_config),
        )
    if config.cache_config.user_specified_block_size:
        select_common_block_size(config.cache_config.block_size, [kernels])


def main() -> None:
    if sys.argv[1] != "cpu":
        play(tuple(int(part) for part in sys.argv[1].split(".")))
    parse = parser()
    answer(lambda words: ask(parse, words))


main()
