"""The resident genai-bench's end of the pipe, without genai-bench."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.bench.driver import Driver


class Heard(Driver):
    """Notes the commands."""

    def __init__(self, commands: int) -> None:
        super().__init__(commands, answers=-1)
        self.heard: list[Mapping[str, Any]] = []

    def handle(self, command: Mapping[str, Any]) -> None:
        self.heard.append(command)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    os.close(ours)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_commands_are_whole_however_they_are_cut(pipe: tuple[int, int], size: int) -> None:
    ours, theirs = pipe
    given = [{"op": "level", "prompt": "x" * 999}, {"op": "cancel"}, {"op": "tokenizer", "dir": "/a\nb"}]
    sent = "".join(json.dumps(each) + "\n" for each in given).encode()
    driver = Heard(ours)
    for at in range(0, len(sent), size):
        os.write(theirs, sent[at : at + size])
        assert driver.read_commands()
    os.close(theirs)
    assert not driver.read_commands()
    assert driver.heard == given
