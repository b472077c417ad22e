"""The overrides of each engine, as the sweeper reads them from a command and an experiment's file."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.sweep.tuner.engines import Engines

OPTIONS = frozenset({"sglang", "vllm", "llamacpp"})
PARAMS: dict[str, Any] = {"sglang.page_size": "32,64", "vllm": {"block_size": 16}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["runtime=sglang"], {"page_size": "page_size=32,64", "runtime": "runtime=sglang"}),
        (["runtime=vllm", "vllm.block_size=32"], {"block_size": "block_size=32", "runtime": "runtime=vllm"}),
        ([], {}),
    ],
    ids=["of-the-file", "of-the-command", "of-the-tree"],
)
def test_of_one_engine_alone_only_its_own_are_left(given: list[str], expected: dict[str, str]) -> None:
    found = Engines(options=OPTIONS).parsed(OverridesParser.create(), PARAMS, given, "llamacpp")
    assert {key: override.input_line for key, override in found.items()} == expected


def test_of_several_all_are_kept_and_a_trial_has_its_own() -> None:
    knobs = {"sglang": frozenset({"page_size"}), "vllm": frozenset({"block_size"})}
    engines = Engines(words=("runtime=sglang,vllm", "llamacpp.n_threads=2"), knobs=knobs, options=OPTIONS)
    found = engines.parsed(OverridesParser.create(), PARAMS, ["not read"], "llamacpp")
    assert [*found] == ["runtime", "sglang.page_size", "vllm.block_size"]
    lines = ["runtime=vllm", "vllm.block_size=16", "sglang.page_size=32"]
    assert engines.trial(lines) == ["runtime=vllm", "block_size=16"]
    assert engines.knobs_of(lines, ()) == {"block_size"}
