"""Reading SGLang's flags from its sources, in both of the styles it has defined them, and the command that does it."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline import catalogues
from pipeline.core.errors import ConfigError
from pipeline.core.values import load
from pipeline.engines.catalogue import Catalogue, Flag
from pipeline.engines.catalogues import UnreadableError, sglang, wheel

PARSER = """
def prepare_server_args(argv):
    parser = argparse.ArgumentParser(prog="sglang serve")
    ServerArgs.add_cli_args(parser)
"""
FILLERS = "\n".join(f'        parser.add_argument("--filler-{n}", type=int, default={n})' for n in range(100))
OLD = """
import json
from sglang.srt.choices import BACKENDS
GRAMMARS = ["xgrammar"]
GRAMMARS.append("outlines")
GRAMMARS += ["none"]

class ServerArgs:
    tp_size: int = 1
    load_format: str = "auto"
    sizes: list = dataclasses.field(default_factory=list)
    first: str = BACKENDS[0]

    @staticmethod
    def add_cli_args(parser):
        more = BACKENDS + ["later"]
        parser.add_argument("--tensor-parallel-size", "--tp-size", type=int, default=ServerArgs.tp_size, help="width")
        parser.add_argument("--backend", type=str, choices=more, default=ServerArgs.first)
        parser.add_argument("--grammar", type=str, choices=GRAMMARS)
        parser.add_argument("--sampling", choices={"a", "b"})
        parser.add_argument("--computed", choices=list(Registry.names()))
        parser.add_argument("--off", action="store_true")
        parser.add_argument("--auto", action="store_true", default=None)
        parser.add_argument("--config", type=json.loads, default=None)
        parser.add_argument("--sizes", type=int, nargs="+", default=ServerArgs.sizes)
        parser.add_argument("--tokens", type=human_readable_int, default=2 * 1024)
        parser.add_argument("--renamed-backend", dest="backend_name", type=str)
        parser.add_argument("--gone", action=DeprecatedAction, help="Note: --gone is deprecated now.")
        parser.add_argument("--still", action=DeprecatedStoreTrueAction, new_flag="--new")
        parser.add_argument("--graph", action=argparse.BooleanOptionalAction, default=True)
"""
FIELDS = """
from sglang.srt.arg_groups.arg_utils import A, Arg
from sglang.srt.choices import BACKENDS
Mode = Literal["fast", "slow"]

class Everything(msgspec.Struct):
    _NS_PATH = "everything"
    model_path: A[str, Arg(help="where", aliases=["--model"])]
    tp_size: A[int, Arg(help="width", aliases=["--tensor-parallel-size"])] = 1
    fraction: A[Optional[float], "share"] = None
    backend: A[Optional[str], Arg(help="kernels", choices=BACKENDS, resolvable=True)] = None
    mode: A[Literal["fast", "slow"], "how"] = "fast"
    level: A[Literal[1, 2], "how much"] = 2
    enable_it: A[bool, "yes"] = False
    enable_maybe: A[Optional[bool], "yes or by itself"] = None
    enable_either: A[Optional[bool], Arg(help="x", action=argparse.BooleanOptionalAction)] = None
    runner: A[str, Arg(help="x", cli_name="--runner-backend")] = "auto"
    sizes: A[Optional[List[int]], "several"] = None
    words: A[Optional[List[str]], Arg(help="as JSON", type_parser=json_list_type)] = None
    paths: A[Optional[Dict], Arg(help="x", action=PathAction, action_kwargs={"type": str, "nargs": "*"})] = None
    tokens: A[int | None, Arg(help="x", type_parser=human_readable_int)] = 1024 * 1024
    old_way: A[bool, "(Deprecated, use --new-way) old"] = False
    hidden: A[bool, Arg(no_cli=True)] = False
    parser_name: Optional[str] = "plain"
    rank = Derived(doc="not an input")
"""
NEW = """
from sglang.srt.arg_groups.fields.everything import Everything

def _names():
    from sglang.srt.choices import BACKENDS
    return list(BACKENDS)

class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        add_cli_args_from_dataclass(parser, ServerArgs)
        names = _names()
        parser.add_argument("--parser-name", choices=["auto"] + names, default=_declared_default("parser_name"))
FILLERS

_INPUT_NAMESPACES = [Everything]
ServerArgs = msgspec.defstruct("ServerArgs", [])
"""
CHOICES = 'BACKENDS = ["triton", "flashinfer"]\n'


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / "sglang" / "srt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def old(root: Path, parser: str = PARSER) -> Path:
    return tree(root, {"server_args.py": OLD + FILLERS + parser, "choices.py": CHOICES})


def new(root: Path) -> Path:
    server_args = NEW.replace("FILLERS", FILLERS) + PARSER
    fields = {"arg_groups/fields/everything.py": FIELDS, "choices.py": CHOICES}
    return tree(root, {"server_args.py": server_args, **fields})


def flags(root: Path) -> dict[str, Flag]:
    return {flag.names[0]: flag for flag in sglang.read(root)}


def flag(name: str, kind: str, **rest: Any) -> Flag:
    told = {"names": (name,), "dest": name.removeprefix("--").replace("-", "_"), "kind": kind, **rest}
    return Flag(**told)


EXPECTED_OLD = [
    flag("--tensor-parallel-size", "int", names=("--tensor-parallel-size", "--tp-size"), default=1),
    flag("--backend", "text", choices=("triton", "flashinfer", "later"), default="triton"),
    flag("--grammar", "text", choices=("xgrammar", "outlines", "none")),
    flag("--sampling", "text", choices=("a", "b")),
    flag("--computed", "text"),
    flag("--off", "bool", default=False),
    flag("--auto", "bool"),
    flag("--config", "json"),
    flag("--sizes", "int", many=True),
    flag("--tokens", "int", default=2048),
    flag("--renamed-backend", "text", dest="backend_name"),
    flag("--gone", "bool", deprecated="Note: --gone is deprecated now."),
    flag("--still", "bool", default=False, deprecated="use --new"),
    flag("--graph", "bool", default=True, off="--no-graph"),
]
EXPECTED_NEW = [
    flag("--model-path", "text", names=("--model-path", "--model")),
    flag("--tp-size", "int", names=("--tp-size", "--tensor-parallel-size"), default=1),
    flag("--fraction", "float"),
    flag("--backend", "text", choices=("triton", "flashinfer")),
    flag("--mode", "text", choices=("fast", "slow"), default="fast"),
    flag("--level", "int", choices=("1", "2"), default=2),
    flag("--enable-it", "bool", default=False),
    flag("--enable-maybe", "bool"),
    flag("--enable-either", "bool", off="--no-enable-either"),
    flag("--runner-backend", "text", dest="runner", default="auto"),
    flag("--sizes", "int", many=True),
    flag("--words", "json"),
    flag("--paths", "text", many=True),
    flag("--tokens", "int", default=1048576),
    flag("--old-way", "bool", default=False, deprecated="(Deprecated, use --new-way) old"),
    flag("--parser-name", "text", choices=("auto", "triton", "flashinfer"), default="plain"),
]


@pytest.mark.parametrize("expected", EXPECTED_OLD, ids=lambda expected: expected.names[0])
def test_an_add_argument_call_is_read(tmp_path: Path, expected: Flag) -> None:
    assert flags(old(tmp_path))[expected.names[0]] == expected


@pytest.mark.parametrize("expected", EXPECTED_NEW, ids=lambda expected: expected.names[0])
def test_an_annotated_field_is_read(tmp_path: Path, expected: Flag) -> None:
    assert flags(new(tmp_path))[expected.names[0]] == expected


def test_fields_without_a_flag_are_no_flags(tmp_path: Path) -> None:
    found = flags(new(tmp_path))
    assert not {"--hidden", "--rank"} & found.keys()
    assert len(found) == len(EXPECTED_NEW) + 100


def test_fields_of_the_arguments_class_itself_are_read(tmp_path: Path) -> None:
    fields = 'class ServerArgs:\n    width: A[int, "x"] = 3\n'
    text = OLD.replace("class ServerArgs:\n", fields) + FILLERS + PARSER
    found = flags(tree(tmp_path, {"server_args.py": text, "choices.py": CHOICES}))
    assert found["--width"] == flag("--width", "int", default=3)
    assert "--tensor-parallel-size" in found


@pytest.mark.parametrize(
    ("told", "takes"), [("", True), (", allow_abbrev=False", False)], ids=["by itself", "told not"]
)
def test_the_parser_says_whether_it_takes_abbreviations(tmp_path: Path, told: str, *, takes: bool) -> None:
    root = old(tmp_path, PARSER.replace('prog="sglang serve"', f'prog="sglang serve"{told}'))
    assert sglang.takes_abbreviations(root) is takes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "there is no sglang/srt/server_args.py", id="no file"),
        pytest.param("class Other: pass", "_INPUT_NAMESPACES or ServerArgs cannot be found", id="no class"),
        pytest.param("class ServerArgs: pass", "there is no ServerArgs.add_cli_args", id="no parser"),
        pytest.param(OLD + PARSER, "14 flags found", id="too few"),
        pytest.param("class ServerArgs(", "cannot be parsed", id="not Python"),
    ],
)
def test_other_definitions_are_told_and_not_guessed(tmp_path: Path, text: str | None, message: str) -> None:
    root = tree(tmp_path, {"server_args.py": text} if text else {})
    with pytest.raises(UnreadableError, match=message):
        sglang.read(root)


def test_a_parser_that_is_built_elsewhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="does not build an"):
        sglang.takes_abbreviations(old(tmp_path, ""))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A wheel of SGLang 1.2.3 as far as the command needs it."""
    path = tmp_path / "files" / "sglang-1.2.3-py3-none-any.whl"
    path.parent.mkdir()
    sources = old(tmp_path / "tree")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sources.rglob("*.py"):
            archive.write(file, file.relative_to(sources))
    return path


@pytest.fixture
def index(made: Path) -> Iterator[str]:
    """A package index that has that wheel."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(made.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        listed(made, url, hashlib.sha256(made.read_bytes()).hexdigest())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


def listed(made: Path, url: str, sha256: str) -> None:
    page = made.parent / "sglang" / "index.html"
    page.parent.mkdir(exist_ok=True)
    others = ["sglang-1.2.3.tar.gz", "sglang-1.0-cp312-cp312-macosx_11_0_arm64.whl", "odd.whl"]
    files = [{"filename": name, "url": f"{url}/{name}", "hashes": {"sha256": sha256}} for name in (*others, made.name)]
    page.write_text(json.dumps({"files": files}))


def test_the_command_writes_the_catalogue_of_a_release(index: str, tmp_path: Path, capsys: Any) -> None:
    assert catalogues.main(["sglang==1.2.3", "--index", index, "--to", str(tmp_path / "to")]) == 0
    found = load(Catalogue, tmp_path / "to" / "sglang" / "1.2.3.json")
    assert (found.version, found.abbreviations, len(found.flags)) == ("1.2.3", True, 114)
    assert found.source.startswith("sglang-1.2.3-py3-none-any.whl sha256:")
    assert "114 flags" in capsys.readouterr().out


def test_the_command_takes_a_wheel_that_is_there(made: Path, tmp_path: Path) -> None:
    assert catalogues.main(["sglang==1.2.3", "--wheel", str(made), "--to", str(tmp_path / "to")]) == 0
    assert (tmp_path / "to" / "sglang" / "1.2.3.json").exists()


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("sglang==9.9", "Newest versions there: 1.2.3"),
        ("sglang", "expected a version after =="),
        ("llamacpp==1.0", "expected one of sglang"),
    ],
)
def test_a_release_that_is_not_there_is_told(index: str, capsys: Any, release: str, message: str) -> None:
    assert catalogues.main([release, "--index", index]) == 2
    assert message in capsys.readouterr().err


def test_a_wheel_with_another_checksum_is_not_used(index: str, made: Path, tmp_path: Path) -> None:
    listed(made, index, "0" * 64)
    with pytest.raises(ConfigError, match="the index says 000"):
        wheel.download(wheel.find("sglang", "1.2.3", index), tmp_path, max)


def test_an_index_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(ConfigError, match="the package index cannot be reached"):
        wheel.find("sglang", "1.2.3", "http://127.0.0.1:1")


def test_a_file_that_is_no_wheel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sglang.whl"
    path.write_text("no")
    with pytest.raises(ConfigError, match="cannot be read as a wheel"):
        wheel.unpack(path, tmp_path)
