"""`servetune doctor --hardware` and `--models`: the machines and models that servetune knows, in a table.

Deploys nothing and needs no GPU.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from pipeline.config import presets
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Model
from pipeline.core.schema_hardware import AUTO, Hardware, Seen
from pipeline.core.schema_model import Architecture
from pipeline.core.values import parse
from pipeline.machine import detected
from pipeline.models import kv_cache

PIPE_WIDTH = 160
TOKENS = 32768  # of the request whose KV cache is shown
GIB = 2**30
Row = tuple[str, ...]
HARDWARE = ("hardware", "GPUs", "GiB each", "GB/s", "TFLOPS", "capability", "NVLink", "here")
MODELS = ("model", "billions", "active", "weights GiB", "format", f"GiB for {TOKENS} tokens", "context", "layers")


def hardware(folder: Path | None = None) -> int:
    """Print every option of `hardware`, and the GPUs of this machine. 0: listed.

    Raises:
        ConfigError: a file of `folder` describes no hardware.
    """
    kinds, problem = _here()
    rows = [_gpu(one, kinds) for one in _options("hardware", Hardware, folder) if not one.is_auto]
    _print(HARDWARE, rows)
    print(f"\nTFLOPS: dense, 16 bit. hardware={AUTO}, the default: {_auto(kinds) if problem is None else problem}")
    return 0


def models(folder: Path | None = None) -> int:
    """Print every option of `model`. 0: listed.

    Raises:
        ConfigError: a file of `folder` describes no model.
    """
    _print(MODELS, [_model(one) for one in _options("model", Model, folder)])
    print(
        "\nGiB for a request: KV cache and states in the model's own type, over all GPUs. Any other model: "
        "model=local model.path=FOLDER."
    )
    return 0


def _here() -> tuple[Sequence[Seen], str | None]:
    """The GPUs of this machine; or why nothing can be said of them."""
    try:
        return detected.here(), None
    except ConfigError as error:
        return (), str(error)


def _auto(kinds: Sequence[Seen]) -> str:
    if not kinds:
        return "cpu here, as no GPU was found"
    return f"{', '.join(map(str, kinds))}: {' or '.join(presets.of(kind).name for kind in kinds)}"


def _options(group: str, kind: Any, folder: Path | None) -> Iterator[Any]:
    for path in [path for root in (CONF, *([folder] if folder else [])) for path in (root / group).glob("*.yaml")]:
        try:
            yield parse(kind, yaml.safe_load(path.read_text("utf-8")))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise ConfigError(f"{path} does not describe a {group}: {error}") from error


def _gpu(one: Hardware, kinds: Sequence[Seen]) -> Row:
    linked = {True: "yes", False: "no", None: "-"}[one.nvlink]
    there = sum(kind.count for kind in kinds if presets.of(kind).name == one.name)
    return (
        one.name,
        str(one.gpu_count),
        *map(_number, (one.gpu_memory_gib, one.memory_bandwidth_gb_s, one.bf16_tflops)),
        str(one.compute_capability or one.architecture or "-"),
        linked,
        str(there) if there else "",
    )


def _model(one: Model) -> Row:
    arch = one.arch
    if arch is None:
        return (one.name, *["-"] * 5, _number(one.context_tokens), one.repo or one.package or "of your own")
    share = kv_cache.Share(arch=arch, size=kv_cache.BYTES[arch.dtype])
    kept = kv_cache.request_bytes(share, TOKENS) / GIB if arch.caches is not None else None
    return (
        one.name,
        *map(_number, (arch.parameters_b, arch.active_parameters_b, arch.weights_gib)),
        arch.quantization or arch.dtype,
        "not known" if kept is None else f"{kept:.2f}",
        _number(arch.context_tokens),
        _layers(arch),
    )


def _layers(arch: Architecture) -> str:
    """What a model's layers keep, in words."""
    kind = "MLA" if arch.attention == "mla" else "attention"
    told = [
        f"{cache.layers} {kind if cache.window is None else f'window {cache.window}'}"
        + (" sparse" if cache.index_bytes else "")
        for cache in arch.kept
    ]
    told += [f"{state.layers} state" for state in arch.states]
    return ", ".join(told) + (f"; {arch.experts_per_token} of {arch.experts} experts" if arch.experts else "")


def _number(found: float | None) -> str:
    """With at most four digits that count."""
    if found is None:
        return "-"
    return f"{found:,.0f}" if found >= 1000 or found == int(found) else f"{found:.4g}"


def _print(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """A table, its rows by name; numbers to the right."""
    console = Console(width=None if Console().is_terminal else PIPE_WIDTH, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(titles):
        is_text = number == 0 or title in {"format", "layers", "NVLink", "here"}
        table.add_column(title, justify="left" if is_text else "right", overflow="fold")
    for row in sorted(rows):
        table.add_row(*row)
    console.print(table)
