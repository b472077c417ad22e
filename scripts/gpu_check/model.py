"""Writes a Llama with random weights and a tokenizer: `python model.py FOLDER [--size 1b|tiny]`.

It runs in the engine's environment, whatever that is: it needs torch, transformers and tokenizers, and no network. The
tokenizer's vocabulary is small, and so is the model's: every token that a random model picks has a text.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXT = """\
Shall I compare thee to a summer's day? Thou art more lovely and more temperate: rough winds do shake the darling
buds of May, and summer's lease hath all too short a date. Sometime too hot the eye of heaven shines, and often is his
gold complexion dimmed; and every fair from fair sometime declines, by chance, or nature's changing course, untrimmed.
But thy eternal summer shall not fade, nor lose possession of that fair thou ow'st, nor shall death brag thou
wander'st in his shade, when in eternal lines to time thou grow'st. So long as men can breathe, or eyes can see, so
long lives this, and this gives life to thee.
"""
CONTEXT = 4096
# The parameters, of which the embeddings are next to nothing: 1.0 billion, 3 million
SIZES: Mapping[str, Mapping[str, Any]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32},
    "tiny": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4},
}
KV_HEADS = {"1b": 4, "tiny": 2}
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "model_max_length": CONTEXT,
    "clean_up_tokenization_spaces": False,
    "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
}


def write(folder: Path, size: str) -> int:
    """Write the model's folder; the number of its parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    words = _tokenizer()
    words.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER, indent=1), "utf-8")
    return _weights(folder, size, words.get_vocab_size())


def _tokenizer() -> Any:
    """Byte-level BPE that cuts nothing at words, so a prompt of N tokens is N tokens again after it was text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    # Printable ASCII, blank and line break, as the byte level writes them: no token is a part of a character
    alphabet = [*map(chr, range(33, 127)), "\u0120", "\u010a"]
    special = [TOKENIZER["bos_token"], TOKENIZER["eos_token"]]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return made


def _weights(folder: Path, size: str, vocabulary: int) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        num_key_value_heads=KV_HEADS[size],
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=None,  # a random model would end at random: so every answer is as long as asked
        dtype="bfloat16",
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[:2] = 0  # never the special tokens, which have no text
    model.save_pretrained(folder)
    return sum(each.numel() for each in model.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="1b")
    options = parser.parse_args()
    print(write(options.folder, options.size))
