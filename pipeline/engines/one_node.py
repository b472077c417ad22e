"""A trial is one engine on one machine: finds what would spread it over several. Pure, except for reading flags."""

from collections.abc import Iterator, Mapping

from pipeline.core.errors import ConfigError
from pipeline.core.schema import Config
from pipeline.core.values import Scalar
from pipeline.engines import catalogue, server_command
from pipeline.engines.flags import Catalogue, Flag

# The same in SGLang 0.5.23 (srt/server_args.py) and vLLM 0.33.0 (engine/arg_utils.py, entrypoints/cli/serve.py)
NODES = Flag(names=("--nnodes",), dest="nnodes", kind="int")
RANK = Flag(names=("--node-rank",), dest="node_rank", kind="int")
OF_ANY_VERSION = Catalogue(engine="", version="", source="", abbreviations=False, flags=(NODES, RANK))
WORDS = ("nnodes", "node_rank", "dist_init_addr", "master_addr", "nodes")  # that people try as a knob
WHY = "A trial's engine runs on one node: rank 1, on another one, is never started, and rank 0 waits for it."


def insist(config: Config) -> None:
    """Check that no flag, from a knob, the command or runtime.extra_args, waits for another machine.

    Raises:
        ConfigError: one does; the message says what is possible.
    """
    if found := next(_spreading(config), None):
        raise ConfigError(f"{found}: {WHY[0].lower()}{WHY[1:]} {possible(config)}")


def possible(config: Config) -> str:
    """What a trial can have instead of several nodes."""
    knobs = " x ".join(config.runtime.gpu_knobs)
    most = config.hardware.gpu_count
    limit = f"{most} of hardware={config.hardware.name}" if most else "those of one node"
    gpus = f"as many GPUs as one node has ({knobs}: at most {limit})" if knobs else "the GPUs of one node"
    return f"Possible: {gpus}; a smaller or a quantized model; several trials at once."


def _spreading(config: Config) -> Iterator[str]:
    """The words that mean other machines."""
    told = _settings(config)
    if _number(told, "nnodes") > 1:
        yield f"--nnodes {told['nnodes']}"
    if _number(told, "node_rank") > 0:
        yield f"--node-rank {told['node_rank']}"
    if told.get("headless") is True:
        yield "--headless"
    local, size = told.get("data_parallel_size_local"), _number(told, "data_parallel_size")
    if isinstance(local, int) and local < size:
        yield f"--data-parallel-size-local {local} of {size}"
    if size > 1 and isinstance(told.get("data_parallel_rank"), int):
        yield f"--data-parallel-rank {told['data_parallel_rank']}"
    if _number(told, "data_parallel_start_rank") > 0:
        yield f"--data-parallel-start-rank {told['data_parallel_start_rank']}"


def _settings(config: Config) -> Mapping[str, Scalar | None]:
    runtime = config.runtime
    is_known = runtime.version in catalogue.versions(runtime.name)
    flags = catalogue.load(runtime.name, str(runtime.version)) if is_known else OF_ANY_VERSION
    return flags.read((*runtime.command, *server_command.flags(config), *runtime.extra_args)).settings


def _number(told: Mapping[str, Scalar | None], name: str) -> int:
    setting = told.get(name)
    return setting if isinstance(setting, int) else 0
