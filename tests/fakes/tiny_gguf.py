"""A random llama model of a few hundred kilobytes that the real server loads and answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN, CONTEXT = 2, 64, 4, 2, 128, 4096
SPACE = "\u2581"
CONTROL_TOKENS = ("<unk>", "<s>", "</s>")
PLAIN_CHARACTERS = [chr(code) for code in range(33, 127)] + list("éèüñß£—\u2019") + list("日本語中文")
SONNET = (
    "the and to of my thy thou thee that in with is so for not but all me his this love be from it as do "
    "or when sweet eyes self mine more by beauty time what are no if you on heart which your day one make "
    "shall compare summer lovely temperate rough winds shake darling buds may lease hath short date"
)
PIECES = "th he in er an re on at en nd st es or te ed is it al ar ou ve ll ee ing"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
# tokenizer.ggml.merges of the byte-level variant, each made of tokens made before it.
MERGES = "t h/th e/i n/a n/Ġ t/Ġ th/Ġ the/Ġth e/an d/Ġ and/e r/1 2/12 3/123 4/Ġ Ġ/ĠĠ Ġ/Ċ Ċ/' s/l l"

Floats = npt.NDArray[np.float32]


class Vocabulary(NamedTuple):
    """Tokens with their scores and GGUF token types."""

    tokens: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]


def write_tiny_gguf(path: Path, *, seed: int = 0, byte_level: str | None = None) -> Path:
    """Write the model; `byte_level` names a `tokenizer.ggml.pre` to use GPT-2 style tokens."""
    writer = gguf.GGUFWriter(str(path), "llama")
    vocabulary = _byte_level_vocabulary() if byte_level else _sentencepiece_vocabulary()
    _add_architecture(writer, len(vocabulary.tokens))
    _add_tokenizer(writer, vocabulary, byte_level)
    for name, tensor in _tensors(np.random.default_rng(seed), vocabulary).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _sentencepiece_vocabulary() -> Vocabulary:
    """Controls, the 256 bytes, then pieces of falling score, as SentencePiece orders them."""
    words = [word[:end] for word in SONNET.split() for end in range(2, len(word) + 1)]
    spaced = [SPACE + word[:end] for word in SONNET.split() for end in range(1, len(word) + 1)]
    pieces = list(dict.fromkeys([*PIECES.split(), *spaced, *words, SPACE, *PLAIN_CHARACTERS]))
    tokens = [*CONTROL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    fixed = len(tokens) - len(pieces)
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    types += [gguf.TokenType.NORMAL] * len(pieces)
    return Vocabulary(tokens, [0.0] * fixed + [-float(rank) for rank in range(len(pieces))], types)


def _byte_level_vocabulary() -> Vocabulary:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(code) for code in printable] + [chr(256 + extra) for extra in range(68)]
    merged = [merge.replace(" ", "") for merge in MERGES.split("/")]
    tokens = list(dict.fromkeys([*CONTROL_TOKENS, *characters, *merged]))
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    return Vocabulary(tokens, [0.0] * len(tokens), types)


def _add_architecture(writer: gguf.GGUFWriter, vocabulary_size: int) -> None:
    writer.add_name("tiny random llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary, byte_level: str | None) -> None:
    writer.add_tokenizer_model("gpt2" if byte_level else "llama")
    writer.add_tokenizer_pre(byte_level or "default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if byte_level:
        writer.add_token_merges(MERGES.split("/"))
    else:
        writer.add_token_scores(vocabulary.scores)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(rng: np.random.Generator, vocabulary: Vocabulary) -> dict[str, Floats]:
    def random(rows: int, columns: int) -> Floats:
        weights: Floats = rng.standard_normal((rows, columns), dtype=np.float32)
        return weights / np.float32(columns**0.5)

    size, ones = len(vocabulary.tokens), np.ones(WIDTH, dtype=np.float32)
    output = random(size, WIDTH) * 4
    # A logit of zero never wins, so the client sees whole characters and no early stop.
    silent = np.array(vocabulary.types) != gguf.TokenType.NORMAL
    output[silent] = 0
    tensors = {
        "token_embd.weight": random(size, WIDTH) * 8,
        "output_norm.weight": ones,
        "output.weight": output,
    }
    for layer in range(LAYERS):
        block = {"attn_norm": ones, "ffn_norm": ones, **_projections(random)}
        tensors |= {f"blk.{layer}.{name}.weight": weights for name, weights in block.items()}
    return tensors


def _projections(random: Callable[[int, int], Floats]) -> dict[str, Floats]:
    kv_width = WIDTH * KV_HEADS // HEADS
    return {
        "attn_q": random(WIDTH, WIDTH),
        "attn_k": random(kv_width, WIDTH),
        "attn_v": random(kv_width, WIDTH),
        "attn_output": random(WIDTH, WIDTH),
        "ffn_gate": random(HIDDEN, WIDTH),
        "ffn_up": random(HIDDEN, WIDTH),
        "ffn_down": random(WIDTH, HIDDEN),
    }
