"""A tiny Hugging Face model folder: a Llama's config, a real tokenizer, an index; no weights."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gpu_check.model import TEXT

VOCABULARY = 512
LAYERS, HIDDEN, HEADS, KV_HEADS, CONTEXT = 2, 64, 4, 2, 4096
SPECIAL = ["<s>", "</s>"]


def write_tiny_hf(folder: Path) -> Path:
    """Write the folder; what AutoTokenizer and an engine's memory estimate need is there."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    contents = {
        "config.json": _config(size),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[0],
            "eos_token": SPECIAL[1],
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
        },
        "model.safetensors.index.json": {"metadata": {"total_size": _weights(size)}, "weight_map": {}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    return folder


def _tokenizer() -> Tokenizer:
    """Byte-level BPE. It learns word by word but cuts nothing at words later: so any cut between two tokens of a text
    leaves the tokens before it as they were, and a prompt of N tokens is one again after it was text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


def _config(vocabulary: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }


def _weights(vocabulary: int) -> int:
    """Bytes in bfloat16: embeddings and head, attention, MLP, norms."""
    attention = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN * KV_HEADS // HEADS
    layer = attention + 3 * HIDDEN * 2 * HIDDEN + 2 * HIDDEN
    return 2 * (2 * vocabulary * HIDDEN + LAYERS * layer + HIDDEN)
