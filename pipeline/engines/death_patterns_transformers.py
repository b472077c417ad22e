"""The error messages of `transformers serve`: rows of pipeline.engines.death_patterns, each provoked on the real server
but where its source says otherwise.
"""

from pipeline.core.errors import FailureKind as Kind
from pipeline.engines import death_hints as hints
from pipeline.engines.death_hints import TRANSFORMERS, Pattern

_PAGES = (
    "The KV cache does not fit: raise cb_max_memory_percent, lower cb_max_batch_tokens or cb_num_blocks, or use "
    "smaller weights."
)

# The command line, as click writes it: exit code 2, or the checks of ModelManager
COMMAND_LINE: tuple[Pattern, ...] = (
    Pattern(
        TRANSFORMERS,
        r"Error: (No such option|Invalid value for|Got unexpected extra argument|Missing |Option '\S+' )",
        Kind.BAD_FLAG,
        hints.BAD_FLAG,
        "click 8.4 exceptions.py",
    ),
    Pattern(
        TRANSFORMERS,
        r"Unsupported (attention implementation|dtype|quantization method): |page_size must be at least",
        Kind.BAD_FLAG,
        hints.BAD_FLAG,
        "transformers 5.24.0 cli/serving/model_manager.py:171,203,214, continuous_batching/initialization.py:341",
    ),
    Pattern(
        TRANSFORMERS,
        r"is not supported for continuous batching",
        Kind.UNSUPPORTED_COMBINATION,
        hints.COMBINATION,
        "transformers 5.24.0 generation/continuous_batching/continuous_api.py:781",
    ),
    Pattern(
        TRANSFORMERS,
        r"^ImportError: .*(Missing dependencies for serving|requires? |toggled on, but)|requires `accelerate`",
        Kind.LOAD_FAILED,
        hints.PACKAGE,
        "transformers 5.24.0 cli/serve.py:116, modeling_utils.py:1558, quantizers/quantizer_bnb_8bit.py:62",
    ),
)
MODEL: tuple[Pattern, ...] = (
    Pattern(
        TRANSFORMERS,
        r"Error no file named|SafetensorError(?!.*[Pp]ermission denied)"
        r"|Error while deserializing header|Can't load the (model|configuration)"
        r"|Repo id must (be|use)|Unrecognized model in|not found in the following directory",
        Kind.MODEL_MISSING,
        hints.MISSING,
        "transformers 5.24.0 modeling_utils.py, safetensors, huggingface_hub 1.33.0 utils/_validators.py",
    ),
)
MEMORY: tuple[Pattern, ...] = (
    Pattern(
        TRANSFORMERS,
        r"Memory footprint -?\d+ is more than available memory|Invalid values: max_batch_tokens = ",
        Kind.KV_CACHE_TOO_SMALL,
        _PAGES,
        "transformers 5.24.0 generation/continuous_batching/cache.py:704,708, at the first request",
    ),
)
