"""Reading vLLM's flags out of its sources, on small ones."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError, vllm

ENUMS = """
from enum import Enum, IntEnum
class Kernels(Enum):
    FLASH = "a.b.Flash"
    TRITON = "a.b.Triton"
class Level(IntEnum):
    O0 = 0
    O1 = 1
"""
CONFIG = '''
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from pydantic import Field, SkipValidation
from vllm.config.enums import *
from vllm.config.enums import Level
if TYPE_CHECKING:
    Formats = Literal["a"]
else:
    Formats = Any
CacheType = Literal["auto", "fp8"]
Backend = Literal["naive", "deepep", "through"]
THROUGH = "through"

@config
class Inner:
    size: int = 1

@config
class Base:
    inherited: bool = False

@config
class Things(Base):
    LIMIT: ClassVar[int] = 64
    seqs: int = Field(default=LIMIT, ge=1)
    share: float = Field(0.92, gt=0)
    cache_type: CacheType = "auto"
    backend: Backend = "naive"
    open_words: Formats | Literal["x"] = "x"
    kernels: Kernels | None = None
    level: Level = Level.O1
    names: list[str] | None = None
    sizes: set[int] = field(default_factory=set)
    token: bool | str | None = None
    inner: Inner = Field(default_factory=Inner)
    extra: dict[str, Any] = field(default_factory=dict)
    either: dict[str, str] | str = ""
    length: Annotated[int, Field(gt=0)] = None
    late: "int | None" = None
    """Deprecated: it has no effect. Leave it."""
    window: SkipValidation[int] = 3
'''
ENGINE = """
from vllm.config.things import THROUGH, Things
def get_kwargs(cls):
    kwargs = {}
    kwargs['a']['nargs'] = '?'
class EngineArgs:
    @staticmethod
    def add_cli_args(parser):
        kwargs = get_kwargs(Things)
        kwargs["backend"]["choices"].remove(THROUGH)
        kwargs["either"]["type"] = json.loads
        group = parser.add_argument_group(title="Things", description=Things.__doc__)
        if not ("serve" in sys.argv):
            group.add_argument("--seqs", "-s", **{**kwargs["seqs"], "default": None})
        for_level = kwargs["level"]
        group.add_argument("--optimization-level", **for_level)
        for name in ("unread",):
            pass
        group.add_argument("--share", "--part", dest="share", **kwargs["share"])
        group.add_argument("--backend", **kwargs["backend"])
        group.add_argument("--enable-inherited", "--inherit", **kwargs["inherited"])
        group.add_argument("--either", **kwargs["either"])
        parser.add_argument("--quiet", action="store_true", help="Say less.")
        parser.add_argument("--pick", choices=["x", "y"], default="y")
        parser.add_argument("--rank", "-r", type=optional_type(int))
        return parser
class AsyncEngineArgs(EngineArgs):
    @staticmethod
    def add_cli_args(parser, async_args_only=False):
        if not async_args_only:
            parser = EngineArgs.add_cli_args(parser)
        parser.add_argument("--log", action=argparse.BooleanOptionalAction, default=False)
        return parser
"""
SERVE = """
from vllm.config.things import Things
from vllm.engine.arg_utils import AsyncEngineArgs
class BaseFrontendArgs(Things):
    @classmethod
    def _customize_cli_kwargs(cls, frontend_kwargs):
        frontend_kwargs["names"]["type"] = json.loads
        del frontend_kwargs["names"]["nargs"]
        return frontend_kwargs
    @classmethod
    def add_cli_args(cls, parser):
        frontend_kwargs = get_kwargs(cls)
        frontend_kwargs = cls._customize_cli_kwargs(frontend_kwargs)
        for key, value in frontend_kwargs.items():
            frontend_group.add_argument(*extra_flags, f"--{key.replace('_', '-')}", **value)
        return parser
class FrontendArgs(BaseFrontendArgs):
    host: str | None = None
def make_arg_parser(parser):
    parser.add_argument("model_tag", type=str, nargs="?")
    parser.add_argument("--servers", "-asc", type=int, default=None)
    parser = FrontendArgs.add_cli_args(parser)
    parser = AsyncEngineArgs.add_cli_args(parser)
    return parser
"""


def sources(root: Path, *, serve: str = SERVE, parser: str = "class EnableDisableAction: pass") -> Path:
    files = {
        "config/enums": ENUMS,
        "config/things": CONFIG,
        "engine/arg_utils": ENGINE,
        "entrypoints/openai/cli_args": serve,
        "entrypoints/cli/serve": "from vllm.entrypoints.openai.cli_args import make_arg_parser\n",
        "entrypoints/cli/main": "",
        "utils/argparse_utils": parser,
    }
    for name, text in files.items():
        path = root / "vllm" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, Flag]:
    """Every flag by its canonical name; the engine's own come after the frontend's of the same name."""
    return {flag.names[0]: flag for flag in vllm.read(sources(tmp_path))}


EXPECTED: dict[str, tuple[str, dict[str, Any]]] = {
    "no positional, own flags": ("--servers", {"names": ("--servers", "-asc"), "kind": "int", "dest": "servers"}),
    "overridden default": ("--seqs", {"names": ("--seqs", "-s"), "kind": "int", "default": None}),
    "default from pydantic": ("--share", {"names": ("--share", "--part"), "kind": "float", "default": 0.92}),
    "literal alias": ("--cache-type", {"kind": "text", "choices": ("auto", "fp8"), "default": "auto"}),
    "choice removed": ("--backend", {"choices": ("deepep", "naive"), "default": "naive"}),
    "literal beside any type": ("--open-words", {"kind": "text", "choices": ("x",)}),
    "enum by name": ("--kernels", {"kind": "text", "choices": ("FLASH", "TRITON"), "default": None}),
    "enum of numbers": ("--level", {"kind": "int", "choices": ("0", "1"), "default": 1}),
    "-O": ("--optimization-level", {"names": ("--optimization-level", "-O"), "default": 1}),
    "customised": ("--names", {"kind": "json", "many": False}),
    "several": ("--sizes", {"kind": "int", "many": True, "default": None}),
    "switch or word": ("--token", {"kind": "text", "off": None}),
    "dataclass": ("--inner", {"kind": "json", "default": None}),
    "dict": ("--extra", {"kind": "json"}),
    "type given later": ("--either", {"kind": "json", "default": ""}),
    "annotated": ("--length", {"kind": "int", "default": None}),
    "type in quotes": ("--late", {"kind": "int", "deprecated": "Deprecated: it has no effect."}),
    "wrapped type": ("--window", {"kind": "int", "default": 3}),
    "inherited": ("--inherited", {"kind": "bool", "off": "--no-inherited", "default": False}),
    "pairs": (
        "--enable-inherited",
        {
            "names": ("--enable-inherited", "--inherit", "--no-inherit", "--disable-inherited"),
            "off": "--no-enable-inherited",
        },
    ),
    "of the subclass": ("--host", {"kind": "text", "default": None}),
    "plain switch": ("--quiet", {"kind": "bool", "off": None, "default": False, "deprecated": None}),
    "plain choices": ("--pick", {"kind": "text", "choices": ("x", "y"), "default": "y"}),
    "wrapped parser": ("--rank", {"names": ("--rank", "-r"), "kind": "int"}),
    "boolean action": ("--log", {"kind": "bool", "off": "--no-log", "default": False}),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_a_flag_is_read(flags: dict[str, Flag], case: str) -> None:
    name, expected = EXPECTED[case]
    assert {key: getattr(flags[name], key) for key in expected} == expected


def test_class_variables_and_positionals_are_no_flags(flags: dict[str, Flag]) -> None:
    assert not {"--LIMIT", "model_tag", "--model_tag"} & flags.keys()


def test_without_pairs_a_switch_has_one_word_for_no(tmp_path: Path) -> None:
    flag = next(flag for flag in vllm.read(sources(tmp_path, parser="")) if flag.names[0] == "--enable-inherited")
    assert flag.names == ("--enable-inherited", "--inherit", "--no-inherit")


@pytest.mark.parametrize(("parser", "expected"), [("", True), ("allow_abbrev = False", False)], ids=["as is", "off"])
def test_abbreviations_are_taken_unless_turned_off(tmp_path: Path, parser: str, expected: bool) -> None:
    assert vllm.takes_abbreviations(sources(tmp_path, parser=parser)) is expected


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ("x = 1", "no make_arg_parser"),
        ("def make_arg_parser(parser):\n    return parser", "adds no flags"),
        ("def make_arg_parser(parser):\n    parser = Gone.add_cli_args(parser)", "no Gone.add_cli_args"),
        ("def make_arg_parser(parser):\n    kwargs = get_kwargs(Gone)", "no class Gone"),
        ("def make_arg_parser(parser):\n    parser.add_argument('--a', **gone['a'])", "no field of a config class"),
    ],
    ids=["no parser", "empty", "no class", "no config", "no field"],
)
def test_unexpected_sources_are_told(tmp_path: Path, serve: str, words: str) -> None:
    with pytest.raises(UnreadableError, match=words):
        vllm.read(sources(tmp_path, serve=serve))
