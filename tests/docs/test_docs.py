"""What the README and docs/ tell people to type, the names that they must hold, and where their links lead."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from shutil import copy

import pytest
import yaml
from hydra._internal.utils import get_args_parser

from pipeline.config import command_line
from pipeline.core.errors import FailureKind
from pipeline.core.record import LevelMetrics

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
LINKED = {**PAGES, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text()}
TEXT = "\n".join(PAGES.values())
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(name, block) for name, text in LINKED.items() for block in FENCE.findall(text)]
README_LINES = 160

MODULES = (
    {"doctor": "pipeline.doctor", "recheck": "pipeline.recheck"}
    | {name: f"pipeline.{name}.__main__" for name in ("report", "replay")}
    | {name: f"pipeline.{name}" for name in ("compare", "ps", "stop", "reap", "sync", "catalogues")}
)
TAKE_OVERRIDES = {"doctor": (), "reap": ("runtime=sglang",), "recheck": ()}  # and what they are checked with
OF_RATES = {"arrival", "rates", "arrivals_s", "max_in_flight", "trace", "recorded", "max_rate", "rate_step"}
OF_EVERY_LEVEL = {"order", "all_levels", "drain_s", "levels", "max_concurrency", "precision"}  # of traffic
WRAPPERS = ("nohup", "systemd-run", "tmux")


def commands(script: str) -> Iterator[tuple[str, ...]]:
    """The words after `servetune`, or the same in the form of `python -m pipeline`, of every call in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>()"):
                yield from _called(words)
                words = []
            else:
                words.append(word)


def _called(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    start = next((i for i, word in enumerate(words) if "=" not in word or word.startswith("-")), 0)
    program, rest = (words[start : start + 1] or [""])[0], list(words[start + 1 :])
    if program == "servetune":
        yield tuple(rest)
    elif program == "python" and rest[:1] == ["-m"] and rest[1].split(".")[0] == "pipeline":
        yield (*rest[1].split(".")[1:], *rest[2:])
    elif program in WRAPPERS and "servetune" in rest:
        yield tuple(rest[rest.index("servetune") + 1 :])
    else:  # a whole command as one word: of `eval` or `tmux`
        yield from (found for word in rest if " " in word for found in commands(word.strip("$()")))


TYPED = sorted({found for _, block in BLOCKS for found in commands(block)})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own options that the docs make."""
    for group, source, name in (("traffic", "smoke", "ours"), ("hydra/launcher", "example_site", "site")):
        (tmp_path / "mine" / group).mkdir(parents=True)
        copy(CONF / group / f"{source}.yaml", tmp_path / "mine" / group / f"{name}.yaml")
    prompts = (ROOT / "tests" / "fakes" / "prompts" / "chat.jsonl").read_text()
    (tmp_path / "prompts.jsonl").write_text(prompts)
    (tmp_path / "arrivals.txt").write_text("0\n0.5\n2\n")
    (tmp_path / "arrivals.jsonl").write_text('{"timestamp": 0}\n{"timestamp": 500}\n')
    (tmp_path / "questions.csv").write_text("question\nWhat is a tide?\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_URL", "sqlite:///study.db")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_a_command_is_accepted_as_it_stands(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    match words:
        case ("--version",) | ("--completion", "bash" | "zsh" | "fish"):
            pass
        case ("dry-run", *rest):
            _accept(rest)
        case ("knobs", runtime, *rest):
            _accept([f"runtime={runtime}", *rest])
        case (name, *rest) if name in MODULES:
            _offers(MODULES[name], [word.split("=")[0] for word in rest if word.startswith("-")], capsys)
            if name in TAKE_OVERRIDES:
                _accept([*TAKE_OVERRIDES[name], *(word for word in rest if "=" in word and not word.startswith("-"))])
        case _:
            _accept(words)


def _accept(words: Sequence[str]) -> None:
    given = get_args_parser().parse_intermixed_args(list(words))
    mine = [f"hydra.searchpath=[file://{Path(given.config_dir).resolve()}]"] if given.config_dir else []
    assert command_line.check([*mine, *given.overrides], is_sweep=given.multirun).total


def _offers(module: str, options: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        import_module(module).main(["--help"])
    told = capsys.readouterr().out
    assert [option for option in options if option not in told] == []


def test_the_installed_command_knows_the_words_of_the_docs() -> None:
    command = Path(sys.executable).with_name("servetune")
    if not command.exists():
        pytest.skip("the command servetune is not installed in this environment")
    told = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    assert {words[0] for words in TYPED if words and re.fullmatch(r"[a-z-]+", words[0])} <= set(
        re.findall(r"[a-z-]+", told)
    )


@pytest.mark.parametrize(("name", "script"), BLOCKS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BLOCKS)])
def test_a_script_can_be_read_by_bash(name: str, script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), name


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for _, script in BLOCKS for word in re.findall(r"^make ([a-z]+)", script, re.MULTILINE)} <= targets


GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
OPTIONS = sorted(path.stem for group in GROUPS for path in (CONF / group).glob("*.yaml"))
HYDRAS = sorted(path.stem for group in ("sweeper", "launcher") for path in (CONF / "hydra" / group).glob("*.yaml"))
METRICS = [f.name for f in fields(LevelMetrics) if f.name.endswith(("_per_s", "_rate", "_attainment"))]


@pytest.mark.parametrize("name", [*FailureKind, *METRICS, "usd_per_million_output_tokens", *GROUPS, *OPTIONS, *HYDRAS])
def test_a_name_is_in_the_docs(name: str) -> None:
    assert re.search(rf"`(?:\S*[ ./])?{re.escape(name)}[`_ .]", TEXT), name


def settings() -> Iterator[tuple[str, str]]:
    """Pages, and the settings that are explained there."""
    sections = {
        "docker": ("backend/docker.yaml", "container"),
        "kubernetes": ("backend/ome.yaml", "kubernetes"),
        "endpoint": ("backend/endpoint.yaml", ""),
        "searching": ("hydra/sweeper/tuner.yaml", ""),
    }
    for page, (file, section) in sections.items():
        tree = yaml.safe_load((CONF / file).read_text())
        for key in tree[section] if section else tree:
            if not key.startswith("_") and key not in {"defaults", "params", "name", "target", "keeper"}:
                yield f"docs/{page}.md", key
    of_all = yaml.safe_load((CONF / "config.yaml").read_text())["traffic"]
    yield from (("docs/rates.md", key) for key in sorted(OF_RATES))
    yield from (("docs/prompts.md", key) for key in sorted(of_all.keys() - OF_EVERY_LEVEL - OF_RATES))


@pytest.mark.parametrize(("page", "key"), [*settings()])
def test_a_setting_is_on_its_page(page: str, key: str) -> None:
    assert re.search(rf"[`.]{key}[`.]", PAGES[page])


def test_every_environment_variable_is_explained() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    conf = "\n".join(path.read_text() for path in (ROOT / "conf").rglob("*.yaml"))
    used = {*re.findall(r'"(SERVETUNE_[A-Z_]+)"', code), *re.findall(r"oc\.env:(SERVETUNE_[A-Z_]+)", conf)}
    assert used == set(re.findall(r"`(SERVETUNE_[A-Z_]+)`", PAGES["docs/environment-variables.md"]))


def links() -> Iterator[tuple[str, str]]:
    for name, text in LINKED.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if "://" not in target:
                yield name, target


@pytest.mark.parametrize(("name", "target"), [*links()])
def test_a_link_leads_somewhere(name: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = ROOT / name if not path else (ROOT / name).parent / path
    assert found.exists()
    if anchor:
        assert anchor in {_slug(title) for title in re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)}


def test_the_map_has_every_room() -> None:
    rooms = {path.parent.name for path in ROOT.glob("pipeline/*/__init__.py")}
    assert rooms <= set(re.findall(r"[a-z]+", LINKED["CONTRIBUTING.md"].split("```")[1]))


PATHS = re.compile(r"`((?:pipeline|tests|conf|templates|benchmarks|docs)/[\w./-]+)`")


@pytest.mark.parametrize("path", sorted({path for text in LINKED.values() for path in PATHS.findall(text)}))
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def _slug(title: str) -> str:
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= README_LINES


def test_the_code_names_pages_that_exist() -> None:
    files = [path for top in ("pipeline", "conf", "templates") for path in (ROOT / top).rglob("*") if path.is_file()]
    texts = [path.read_text() for path in files if path.suffix in {".py", ".yaml", ".j2"}]
    named = {page for text in texts for page in re.findall(r"\bdocs/[\w-]+\.md", text)}
    assert named
    assert {page for page in named if not os.path.lexists(ROOT / page)} == set()
