"""Reading the flags of `transformers serve` out of its sources, on a small one."""

from pathlib import Path

import pytest

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError, transformers

SERVE = """
import enum
from typing import Annotated
import typer

class Mode(str, enum.Enum):
    ON = "on"
    AUTO = "auto"

PORT = 8000

class Serve:
    def __init__(
        self,
        force_model: Annotated[str | None, typer.Argument(help="Model")] = None,
        batching: Annotated[bool, typer.Option(help="Batch.")] = False,
        graphs: Annotated[bool | None, typer.Option(help="Graphs.")] = None,
        block_size: Annotated[int | None, typer.Option()] = None,
        share: Annotated[float, typer.Option()] = 0.5,
        mode: Annotated[Mode, typer.Option()] = Mode.AUTO.value,
        port: Annotated[int, typer.Option("--port", "-p", help="Port.")] = PORT,
        host: Annotated[str, typer.Option()] = "localhost",
        a_b: Annotated[str, typer.Option()] = "x",
        c: Annotated[str, typer.Option()] = "x",
        d: Annotated[str, typer.Option()] = "x",
        plain: int = 3,
    ) -> None:
        pass
"""


def written(folder: Path, text: str) -> Path:
    (folder / "transformers" / "cli").mkdir(parents=True)
    (folder / "transformers" / "cli" / "serve.py").write_text(text)
    return folder


def test_a_parameter_is_a_flag(tmp_path: Path) -> None:
    flags = {flag.dest: flag for flag in transformers.read(written(tmp_path, SERVE))}
    assert "force_model" not in flags
    assert "plain" not in flags
    assert flags["batching"] == Flag(
        names=("--batching",), dest="batching", kind="bool", default=False, off="--no-batching"
    )
    assert flags["graphs"] == Flag(names=("--graphs",), dest="graphs", kind="bool", off="--no-graphs")
    assert flags["block_size"] == Flag(names=("--block-size",), dest="block_size", kind="int")
    assert flags["share"] == Flag(names=("--share",), dest="share", kind="float", default=0.5)
    assert flags["port"] == Flag(names=("--port", "-p"), dest="port", kind="int", default=8000)
    assert flags["mode"] == Flag(names=("--mode",), dest="mode", kind="text", choices=("on", "auto"), default="auto")


def test_no_abbreviations_are_taken(tmp_path: Path) -> None:
    assert not transformers.takes_abbreviations(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("x = 1", "no class Serve", id="another shape"),
        pytest.param("class Serve:\n    def __init__(self, a: int = 1) -> None: ...", "0 flags found", id="no options"),
    ],
)
def test_other_sources_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        transformers.read(written(tmp_path, text))


def test_without_the_command_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no transformers/cli/serve"):
        transformers.read(tmp_path)
