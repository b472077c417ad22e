"""The tokenizer for the prompts of a model that a server has already: its own, else one made of the prompts' text.

Nothing of the model itself is needed here.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.errors import ModelError
from pipeline.core.findings import Finding
from pipeline.core.places import cache_dir
from pipeline.core.schema import Config, Model
from pipeline.models import assets

# Part of the folder's name: raise it when the same text must give a different tokenizer.
LAYOUT = 1
# With it a token of genai-bench's text has 3.9 characters; one of Gemma 3's tokenizer has 3.8
VOCABULARY = 1000
WHY = (
    "neither model.tokenizer nor model.repo is set, so prompts are cut with a tokenizer of our own: they are about as "
    "long as asked, and the server's own counts say how long. Set model.tokenizer for exact lengths, and where the "
    "server counts no tokens"
)


def has_own(model: Model) -> bool:
    """Whether it is known where the model's tokenizer is."""
    return any((model.tokenizer, model.path, model.package, model.repo))


def findings(config: Config) -> tuple[Finding, ...]:
    """What to know of the prompts before they are sent."""
    if has_own(config.model):
        return ()
    return (Finding(rule="tokenizer", verdict="warned", reason=WHY, source="model.tokenizer"),)


def check(model: Model) -> str:
    """Where the tokenizer comes from; whether it can be had.

    Raises:
        ModelError: the folder or file that is named has none, or does not exist.
    """
    if not has_own(model):
        return "prompts are cut with a tokenizer of our own"
    is_here = model.path is not None or model.package is not None
    found = assets.locate(model) if is_here and model.tokenizer is None else None
    assets.check(model, found)
    return f"its tokenizer is that of {model.tokenizer or found or model.repo}"


def tokenizer(model: Model, *, watch: Callable[[], None] = lambda: None) -> Path:
    """The folder of the tokenizer, fetched or made on first use.

    Raises:
        ModelError: there is none where it should be, or no way to it.
        OSError: the cache cannot be written.
    """
    return assets.prepare_tokenizer(model, watch=watch) if has_own(model) else stand_in(cache_dir() / "tokenizers")


def stand_in(folder: Path) -> Path:
    """A byte-level BPE tokenizer of the text that prompts are made of: about as many tokens as a model's own."""
    target = folder / f"sonnets-{LAYOUT}"
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
            staged = Path(scratch, "tokenizer")
            staged.mkdir()
            _write(staged)
            try:
                staged.rename(target)
            except OSError:  # another builder was first: its folder holds the same
                if not target.is_dir():
                    raise
    return target


def _write(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(_sonnets().read_text("utf-8").splitlines(), trainer)
    made.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def _sonnets() -> Path:
    """genai-bench's own text, of which it makes prompts. Source: genai-bench 0.0.5, data/sonnet.txt."""
    found = importlib.util.find_spec("genai_bench")
    text = Path(next(iter(found.submodule_search_locations or ())), "data", "sonnet.txt") if found else None
    if text is None or not text.is_file():
        raise ModelError("genai-bench is not installed whole: its data/sonnet.txt is missing. Install servetune again.")
    return text
