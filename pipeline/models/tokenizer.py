"""Builds a Hugging Face tokenizer directory from the tokenizer inside a GGUF file.

The load generator counts and cuts prompts with `AutoTokenizer`, the server with the
tokenizer in the model file. Building the first from the second keeps the two in step
and needs no download.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pipeline.core.errors import ModelError
from pipeline.models import gguf

if TYPE_CHECKING:
    import tokenizers

# Part of every cache name: raise it when the same file must give a different directory.
LAYOUT = 1
# A 256k-token vocabulary ends about 6.5 MB into the file; hashing 16 MiB takes 20 ms.
HASHED_BYTES = 16 * 2**20

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
# What llama.cpp assumes for a SentencePiece file that leaves these out.
LLAMA_ROLE_IDS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tokenizer.ggml.pre -> the splits made, in this order, before byte-level BPE.
SPLITS = {
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "qwen2": (_MODERN % r"\p{N}",),
    "llama-bpe": (_MODERN % r"\p{N}{1,3}",),
}


class Vocabulary(NamedTuple):
    """The tokenizer part of a GGUF file's metadata."""

    source: Path
    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    fields: Mapping[str, Any]

    @property
    def roles(self) -> dict[str, int]:
        """Map `bos_token` and its like to token ids."""
        ids: dict[str, int] = dict(LLAMA_ROLE_IDS) if self.model == "llama" else {}
        ids |= {role: self.fields[key] for role, key in ROLES.items() if key in self.fields}
        for role, number in ids.items():
            if not 0 <= number < len(self.tokens):
                _refuse(self.source, f"{role} id below {len(self.tokens)}", str(number))
        return ids

    def column(self, name: str) -> Sequence[Any]:
        """Return a per-token or merge list, which must be there."""
        values = self.fields.get(name, ())
        if not values or (name != "merges" and len(values) != len(self.tokens)):
            expected = f"tokenizer.ggml.{name} for {len(self.tokens)} tokens"
            _refuse(self.source, expected, f"{len(values)} entries")
        return tuple(values)


def build_tokenizer(gguf_path: Path, cache_dir: Path) -> Path:
    """Return a directory `AutoTokenizer.from_pretrained` loads, built on first use."""
    target = cache_dir / _cache_name(gguf_path)
    if not target.is_dir():
        _publish(_read_vocabulary(gguf_path), target)
    return target


def built_tokenizer(gguf_path: Path, cache_dir: Path) -> Path | None:
    """What `build_tokenizer` has made before; None where it has not."""
    target = cache_dir / _cache_name(gguf_path)
    return target if target.is_dir() else None


def _cache_name(gguf_path: Path) -> str:
    """Name the directory after the file's name, size and leading bytes."""
    try:
        with gguf_path.open("rb") as file:
            head = file.read(HASHED_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        _refuse(gguf_path, "a readable file", error.strerror or str(error))
    if head[:4] != gguf.MAGIC:
        _refuse(gguf_path, f"a GGUF file, which begins with {gguf.MAGIC!r}", repr(head[:4]))
    digest = hashlib.sha256(head)
    digest.update(f"{LAYOUT}:{size}:".encode() + os.fsencode(gguf_path.name))
    return f"{gguf_path.stem[:64]}-{digest.hexdigest()[:20]}"


def _publish(vocabulary: Vocabulary, target: Path) -> None:
    """Write the directory beside `target`, then rename it into place."""
    tokenizer = _make_tokenizer(vocabulary)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
        staged = Path(scratch, "tokenizer")
        staged.mkdir()
        tokenizer.save(str(staged / "tokenizer.json"), pretty=False)
        config = json.dumps(_config(vocabulary), indent=2, ensure_ascii=False)
        (staged / "tokenizer_config.json").write_text(config, encoding="utf-8")
        try:
            staged.rename(target)
        except OSError:
            # Another builder was first: its directory holds the same bytes.
            if not target.is_dir():
                raise


def _config(vocabulary: Vocabulary) -> dict[str, object]:
    named = {role: vocabulary.tokens[number] for role, number in vocabulary.roles.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | named


def _make_tokenizer(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    makers = {"llama": _sentencepiece, "gpt2": _byte_level}
    if vocabulary.model not in makers:
        _refuse(vocabulary.source, f"tokenizer.ggml.model among {sorted(makers)}", vocabulary.model)
    tokenizer = makers[vocabulary.model](vocabulary)
    _add_listed_tokens(tokenizer, vocabulary)
    _add_template(tokenizer, vocabulary)
    return tokenizer


def _sentencepiece(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    unknown = vocabulary.tokens[vocabulary.roles["unk_token"]]
    merges = _score_merges(vocabulary.tokens, vocabulary.column("scores"), ids)
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = vocabulary.fields.get("add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefixed else spaces
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * prefixed)
    return tokenizer


def _score_merges(tokens: Sequence[str], scores: Sequence[float], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """List every way to make a token of two others, best score first.

    llama.cpp joins the neighbours whose union scores best; ranked merges do the same
    when the ranks follow the scores.
    """
    ranked = sorted(range(len(tokens)), key=lambda number: -scores[number])
    return [pair for number in ranked for pair in _halves(tokens[number], ids)]


def _halves(token: str, ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for cut in range(1, len(token)):
        left, right = token[:cut], token[cut:]
        if left in ids and right in ids:
            yield left, right


def _byte_level(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    kind = vocabulary.fields.get("pre", "")
    if kind not in SPLITS:
        _refuse(vocabulary.source, f"tokenizer.ggml.pre among {sorted(SPLITS)}", repr(kind))
    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    merges = [_merge(vocabulary, line, ids) for line in vocabulary.column("merges")]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=kind == "llama-bpe"))
    splits: list[Any] = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in SPLITS[kind]]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merge(vocabulary: Vocabulary, line: str, ids: Mapping[str, int]) -> tuple[str, str]:
    left, _, right = line.partition(" ")
    if not {left, right, left + right} <= ids.keys():
        _refuse(vocabulary.source, "merges of two tokens into a third", repr(line))
    return left, right


def _add_listed_tokens(tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Register the tokens that llama.cpp finds in a text before any merging."""
    from tokenizers import AddedToken

    # Unnormalised, since the file spells these with plain spaces where others have SPACE.
    for special, kinds in ((True, {UNKNOWN, CONTROL}), (False, {USER_DEFINED})):
        pairs = zip(vocabulary.tokens, vocabulary.types, strict=True)
        texts = [text for text, kind in pairs if kind in kinds and text]
        added = [AddedToken(text, normalized=False, special=special) for text in texts]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)


def _add_template(tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Add the begin and end tokens that the server adds to a whole text."""
    from tokenizers.processors import TemplateProcessing

    fields, roles = vocabulary.fields, vocabulary.roles
    starts = vocabulary.model == "llama" or fields.get("pre") == "llama-bpe"
    begin = [roles["bos_token"]] if fields.get("add_bos_token", starts) and "bos_token" in roles else []
    end = [roles["eos_token"]] if fields.get("add_eos_token", False) and "eos_token" in roles else []
    listed = [(vocabulary.tokens[number], number) for number in begin + end]
    pieces = [f"{vocabulary.tokens[number]}:0" for number in begin + end]
    pieces.insert(len(begin), "$A:0")
    tokenizer.post_processor = TemplateProcessing(single=pieces, special_tokens=listed)


def _read_vocabulary(gguf_path: Path) -> Vocabulary:
    fields = _tokenizer_fields(gguf_path)
    tokens = fields.get("tokens", ())
    if not tokens:
        _refuse(gguf_path, "a vocabulary in tokenizer.ggml.tokens", "none")
    model = str(fields.get("model", "none"))
    types = fields.get("token_type", (NORMAL,) * len(tokens))
    if len(types) != len(tokens):
        _refuse(gguf_path, f"{len(tokens)} tokenizer.ggml.token_type", str(len(types)))
    return Vocabulary(gguf_path, model, tokens, types, fields)


def _tokenizer_fields(gguf_path: Path) -> dict[str, Any]:
    """Read `tokenizer.ggml.*` here, since the gguf package takes 12 s to index a 256k vocabulary."""
    prefix = "tokenizer.ggml."
    try:
        with gguf_path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            pairs = list(gguf.key_values(view))
    except gguf.UnknownVersionError as error:
        _refuse(gguf_path, f"little-endian GGUF version {gguf.VERSIONS}", f"version {error}")
    except (struct.error, ValueError, KeyError, OverflowError, OSError) as error:
        _refuse(gguf_path, "complete GGUF metadata", f"{type(error).__name__}: {error}")
    return {key.removeprefix(prefix): value for key, value in pairs if key.startswith(prefix)}


def _refuse(source: Path, expected: str, seen: str) -> NoReturn:
    raise ModelError(
        f"cannot build a tokenizer from {source}: expected {expected}, found {seen}; "
        "use a complete GGUF model with a llama or gpt2 tokenizer"
    )
