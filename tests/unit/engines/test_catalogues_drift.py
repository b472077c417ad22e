"""Ways in which releases of the engines wrote their flags down that once could not be read, or were misread."""

from pathlib import Path

import pytest

from pipeline.engines.catalogue import Flag
from pipeline.engines.catalogues import UnreadableError, sglang, vllm

FILLERS = "\n".join(f'        parser.add_argument("--filler-{n}", type=int, default={n})' for n in range(100))
ACTIONS = """
class DeprecatedAliasStoreAction(argparse.Action):
    def __init__(self, option_strings, dest, new_flag=None, **kwargs):
        super().__init__(option_strings, dest, **kwargs)

class DeprecatedSwitchAction(argparse.Action):
    def __init__(self, option_strings, dest, nargs=0, **kwargs):
        super().__init__(option_strings, dest, nargs=nargs, **kwargs)
"""
TWO_PARSERS = """
def prepare_server_args(argv):
    if "--config" in argv:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        ServerArgs.add_cli_args(parser)
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
"""


def of_sglang(root: Path, *, fields: str = "    tp_size: int = 1", added: str = "", parser: str = "") -> Path:
    path = root / "sglang" / "srt" / "server_args.py"
    path.parent.mkdir(parents=True)
    head = f"class ServerArgs:\n{fields}\n\n    @staticmethod\n    def add_cli_args(parser):\n"
    path.write_text(f"{ACTIONS}\n{head}{added}\n{FILLERS}\n{parser}")
    return root


def read(root: Path) -> dict[str, Flag]:
    found = [flag for flag in sglang.read(root) if not flag.names[0].startswith("--filler-")]
    assert len({flag.names[0] for flag in found}) == len(found)
    return {flag.names[0]: flag for flag in found}


def test_of_two_parsers_of_sglang_the_second_takes_the_flags(tmp_path: Path) -> None:
    """SGLang 0.5.3 to 0.5.7: the first only looks what a --config file may hold."""
    assert sglang.takes_abbreviations(of_sglang(tmp_path, parser=TWO_PARSERS))


@pytest.mark.parametrize(
    ("words", "kind", "many"),
    [
        ("action=DeprecatedAliasStoreAction, type=int", "int", False),
        ('action=DeprecatedAliasStoreAction, type=int, nargs="+"', "int", True),
        ("action=DeprecatedSwitchAction", "bool", False),
    ],
    ids=["number", "numbers", "switch"],
)
def test_a_deprecated_alias_of_sglang_takes_what_its_action_takes(
    tmp_path: Path, words: str, kind: str, many: bool
) -> None:
    """SGLang 0.5.13 to 0.5.18: an alias that is followed by a number is no switch."""
    alias = 'dest="max_bs_decode", default=argparse.SUPPRESS, help="Deprecated alias for --max-bs-decode."'
    added = f'        parser.add_argument("--max-bs", {words}, new_flag="--max-bs-decode", {alias})'
    [flag] = read(of_sglang(tmp_path, added=added)).values()
    assert (flag.kind, flag.many, flag.dest) == (kind, many, "max_bs_decode")
    assert flag.default is None
    assert flag.deprecated == "Deprecated alias for --max-bs-decode."


def test_what_says_nothing_of_a_flag_makes_none_of_a_field(tmp_path: Path) -> None:
    """SGLang 0.5.13 to 0.5.18: places of a field are metadata as well."""
    fields = '    place: A[int, NS("serving")] = 3\n    width: A[int, NS("serving"), Arg(help="x")] = 4'
    found = read(of_sglang(tmp_path, fields=fields))
    assert {name: flag.default for name, flag in found.items()} == {"--width": 4}


def test_a_field_that_is_bound_again_is_one_flag(tmp_path: Path) -> None:
    """SGLang 0.5.13 to 0.5.18: the later one counts, as in Python."""
    found = read(of_sglang(tmp_path, fields='    width: A[int, "x"] = 3\n    width: A[int, "y"] = 4'))
    assert {name: flag.default for name, flag in found.items()} == {"--width": 4}


def of_vllm(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "vllm" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_parser_of_vllm_is_found_wherever_its_command_has_it_from(tmp_path: Path) -> None:
    """vLLM 0.29 to 0.32: make_arg_parser is in entrypoints/launchers/cli_args.py."""
    body = '    parser.add_argument("--width", type=int, default=3)\n    return parser\n'
    files = {
        "entrypoints/launchers/cli_args": f"def make_arg_parser(parser):\n{body}",
        "entrypoints/cli/serve": "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n",
    }
    [flag] = vllm.read(of_vllm(tmp_path, files))
    assert (flag.names, flag.kind, flag.default) == (("--width",), "int", 3)


def test_a_vllm_without_the_file_of_its_parser_is_told_in_words(tmp_path: Path) -> None:
    """vLLM 0.10.0 has it elsewhere."""
    told = r"vLLM: there is no .*argparse_utils\.py, where the parser is since 0\.10\.1"
    with pytest.raises(UnreadableError, match=told):
        vllm.takes_abbreviations(of_vllm(tmp_path, {"entrypoints/cli/serve": ""}))
