"""What engines say of the installation that they run in: rows of pipeline.engines.death_patterns.

A fault that any trial meets here, whatever its knobs are, is `engine_broken` (or `no_gpu`); one that a knob leads to, a
kernel that must be compiled, an optional package, stays `load_failed`, so that a search leaves that knob's value.

All wordings are anchored to a raised exception or to the program that writes them: engines tell the same words in
warnings, and go on (`Failed to load ...: libx.so.1: cannot open shared object file`).
"""

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import death_hints as hints
from pipeline.engines.death_hints import ANY, Pattern

_RAISED = r"^(- )?(\w+\.)*(ImportError|OSError): "
_LOADER = r"^\S+: "  # glibc's: the program that could not be started
_ERRNO = r"^(\w+\.)*\w*(Error|Exception)\b.*"
_OWN = (
    "torch|transformers|tokenizers|safetensors|triton|numpy|zmq|fastapi|starlette|uvicorn|uvloop|pydantic|pydantic_core|msgspec"
    "|orjson|aiohttp|requests|PIL|regex|tqdm|packaging|psutil|huggingface_hub|prometheus_client|openai|setproctitle|pybase64"
    "|partial_json_parser|cloudpickle|cachetools|compressed_tensors|mistral_common|jinja2|yaml|filelock|typing_extensions"
    "|sentencepiece|interegular|IPython|sgl_kernel|sglang|vllm"
)  # of the imports of sglang 0.5.23 and vllm 0.33.0, those that no knob decides about

ENVIRONMENT: tuple[Pattern, ...] = (
    Pattern(
        ANY,
        rf"({_RAISED}|{_LOADER}error while loading shared libraries: )(libcuda|libamdhip64|libhsa-runtime64)\.so",
        Kind.NO_GPU,
        hints.NO_DRIVER,
        "glibc elf/dl-load.c: the driver's own library is missing",
    ),
    Pattern(
        ANY,
        r"/dev/(kfd|dri/\w+)\b.*([Pp]ermission denied|not permitted)",
        Kind.NO_GPU,
        hints.RENDER,
        "ROCR-Runtime, as rocminfo says it; errno 13 and 1",
    ),
    Pattern(
        ANY,
        rf"({_RAISED}|{_LOADER})(\S+: )*version `\w+_[\d.]+' not found",
        Kind.ENGINE_BROKEN,
        hints.GLIBC,
        "glibc elf/dl-version.c",
    ),
    Pattern(
        ANY,
        rf"({_RAISED}|{_LOADER}error while loading shared libraries: ).*cannot open shared object file",
        Kind.ENGINE_BROKEN,
        hints.LIBRARY,
        "glibc elf/dl-load.c, elf/rtld.c",
    ),
    Pattern(
        ANY,
        rf"({_RAISED}|{_LOADER}symbol lookup error: ).*undefined symbol: ",
        Kind.ENGINE_BROKEN,
        hints.ABI,
        "glibc elf/dl-lookup.c",
    ),
    Pattern(
        ANY,
        r"^\[sgl_kernel\] CRITICAL: Could not load any common_ops",
        Kind.ENGINE_BROKEN,
        hints.ABI,
        "sgl_kernel load_utils.py",
    ),
    Pattern(
        ANY,
        rf"^ModuleNotFoundError: No module named '({_OWN})(\.|')|^\S+: No module named [\w.]+$",
        Kind.ENGINE_BROKEN,
        hints.INCOMPLETE,
        "CPython importlib/_bootstrap.py, runpy.py",
    ),
    Pattern(
        ANY,
        r"^ModuleNotFoundError: No module named '",
        Kind.LOAD_FAILED,
        hints.PACKAGE,
        "CPython importlib/_bootstrap.py",
    ),
    Pattern(
        ANY,
        rf"^ImportError: cannot import name '\w+' from '({_OWN})(\.|')",
        Kind.ENGINE_BROKEN,
        hints.VERSIONS,
        "CPython Python/ceval.c",
    ),
    Pattern(
        ANY,
        r"^ImportError: cannot import name '\w+' from '",
        Kind.LOAD_FAILED,
        hints.OTHER_VERSION,
        "CPython Python/ceval.c",
    ),
    Pattern(
        ANY,
        r"^ImportError: This modeling file requires the following packages",
        Kind.ENGINE_BROKEN,
        hints.INCOMPLETE,
        "transformers dynamic_module_utils.py: code that comes with the model",
    ),
    # Files
    Pattern(
        ANY,
        rf"{_ERRNO}[Pp]ermission denied.*\.(safetensors|gguf|bin|pt|pth)\b"
        r"|^FileNotFoundError: No such file or directory: \S+\.safetensors",
        Kind.MODEL_MISSING,
        hints.UNREADABLE,
        "errno 13; safetensors 0.8.0 says of it that the file is not there, provoked",
    ),
    Pattern(
        ANY,
        rf"{_ERRNO}(\[Errno 13\] )?[Pp]ermission denied|^OSError: PermissionError at \S+ when downloading ",
        Kind.ENGINE_BROKEN,
        hints.PERMISSION,
        "errno 13 in CPython's and Rust's words; transformers utils/hub.py",
    ),
    Pattern(
        ANY,
        rf"{_ERRNO}[Rr]ead-only file system",
        Kind.ENGINE_BROKEN,
        hints.READ_ONLY,
        "errno 30 in CPython's and Rust's words",
    ),
    # Compilers
    Pattern(
        ANY,
        r"^RuntimeError: Failed to find C compiler"
        r"|^(\w+\.)*CalledProcessError: Command '\['\S*(gcc|cc|clang)', '\S+\.c'",
        Kind.ENGINE_BROKEN,
        hints.TRITON,
        "triton runtime/build.py",
    ),
    Pattern(
        ANY,
        r"^RuntimeError: (Could not find nvcc|Ninja (build failed|is required)|ninja exited|Error (build|compil)ing)"
        r"|^OSError: CUDA_HOME environment variable is not set|^FileNotFoundError: .*'(ninja|nvcc|\S+/bin/nvcc)'$",
        Kind.LOAD_FAILED,
        hints.JIT,
        "flashinfer jit/cpp_ext.py, torch/utils/cpp_extension.py, tvm_ffi cpp/extension.py",
    ),
)
