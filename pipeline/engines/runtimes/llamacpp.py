"""llama.cpp's own HTTP server as a program: `python -m pipeline.engines.runtimes.llamacpp --model FILE --port N`.

The `xllamacpp` wheel carries the server but no `llama-server` executable. Flags are spelled as llama-server spells
them (tools/server/README.md), so that `runtime.command=[llama-server]` can take this program's place.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

SWITCHES = ("on", "off", "auto")
INTS = {  # flag: CommonParams attribute
    "ctx-size": "n_ctx",
    "parallel": "n_parallel",
    "batch-size": "n_batch",
    "ubatch-size": "n_ubatch",
    "n-gpu-layers": "n_gpu_layers",
    "cache-ram": "cache_ram_mib",
    "threads-http": "n_threads_http",
    "log-verbosity": "verbosity",  # 4 tells what became of every other flag
}
BOOLS = {"cont-batching": "cont_batching", "kv-unified": "kv_unified", "swa-full": "swa_full"}
MASK_SIZE = 512  # GGML_MAX_N_THREADS
CPU = {"threads": "n_threads", "prio": "priority", "cpu-strict": "strict_cpu"}


def arguments() -> argparse.ArgumentParser:
    """The command line; abbreviations are refused, so that no flag is silently another one."""
    parser = argparse.ArgumentParser(prog="pipeline.engines.runtimes.llamacpp", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--alias", required=True, help="model name in the API")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--slot-save-path", type=Path, help="folder that allows POST /slots/N?action=erase")
    parser.add_argument("--flash-attn", choices=SWITCHES)
    parser.add_argument("--threads-batch", type=int)
    for flag in ("cache-type-k", "cache-type-v"):
        parser.add_argument(f"--{flag}")
    for flag in (*INTS, *CPU):
        parser.add_argument(f"--{flag}", type=int)
    for flag in BOOLS:
        parser.add_argument(f"--{flag}", action=argparse.BooleanOptionalAction)
    return parser


def parameters(options: argparse.Namespace) -> Any:
    """Xllamacpp's CommonParams; an option that was not given leaves llama.cpp's default alone."""
    import xllamacpp as llama

    given = {name.replace("_", "-"): item for name, item in vars(options).items() if item is not None}
    params = llama.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.endpoint_metrics = params.endpoint_props = params.endpoint_slots = True
    params.api_keys = [key for key in [os.environ.get("LLAMA_API_KEY")] if key]
    for flag, attribute in (INTS | BOOLS).items():
        if flag in given:
            setattr(params, attribute, given[flag])
    _set_threads(params, given, llama)
    if "flash-attn" in given:
        name = "ENABLED" if given["flash-attn"] == "on" else "DISABLED" if given["flash-attn"] == "off" else "AUTO"
        params.flash_attn_type = getattr(llama.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{name}")
    for side in ("cache-type-k", "cache-type-v"):
        if side in given:
            setattr(params, side.replace("-", "_"), getattr(llama.ggml_type, f"GGML_TYPE_{given[side].upper()}"))
    if "slot-save-path" in given:
        params.slot_save_path = f"{given['slot-save-path']}/"
    return params


def _set_threads(params: Any, given: dict[str, Any], llama: Any) -> None:
    for flag, attribute in CPU.items():
        if flag in given:
            setting = given[flag]
            if flag == "prio":
                setting = llama.ggml_sched_priority(setting)
            setattr(params.cpuparams, attribute, setting)
            if flag != "threads":
                setattr(params.cpuparams_batch, attribute, setting)
    if "threads-batch" in given:
        params.cpuparams_batch.n_threads = given["threads-batch"]
    if given.get("cpu-strict") and hasattr(os, "sched_getaffinity"):
        _pin(params.cpuparams, params.cpuparams_batch)


def _pin(*threads: Any) -> None:
    """The CPUs we may use, to pin to: without a mask llama.cpp silently ignores --cpu-strict."""
    allowed = os.sched_getaffinity(0)
    for pool in threads:
        pool.cpumask = [cpu in allowed for cpu in range(MASK_SIZE)]
        pool.mask_valid = True


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until TERM or INT. The exit code is 0 after a signal, 1 when the model cannot be served."""
    options = arguments().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        import xllamacpp as llama

        server = llama.Server(parameters(options))
    except (ImportError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        print(f"error: llama.cpp cannot serve {options.model}: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        time.sleep(1)  # pause() would sleep through a signal that came just before it


def _leave(_signum: int, _frame: FrameType | None) -> None:
    """End at once: the server's threads hold nothing that the kernel does not take back."""
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
