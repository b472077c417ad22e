"""`python -m pipeline.catalogues sglang==0.5.23`: write down every flag of a released engine, read from its sources."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from pipeline.core.errors import ConfigError
from pipeline.core.places import PACKAGE
from pipeline.core.values import to_json
from pipeline.engines import catalogue, changes, history, versions
from pipeline.engines.catalogue import FOLDER, Catalogue
from pipeline.engines.catalogues import wheel
from pipeline.machine import companion, entry


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.catalogues") -> int:
    """The command. 0: written, or nothing new; 1: a release changes something; 2: it cannot be read."""
    options = _options(argv, prog)
    try:
        if options.check:
            return max([_check(engine, options.index) for engine in _asked(options.release)])
        for found in _releases(options):
            path = _written(found, options.to)
            sys.stdout.write(f"{path}: {len(found.flags)} flags of {found.version}, read from {found.source}\n")
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Read every command-line flag of an engine release from its wheel and save them as a catalogue. "
        "Then runtime.version=VERSION works: knobs are checked against the flags of that version. "
        "The engine is neither installed nor run; of a wheel, only its Python files are fetched. "
        "Exit code 1: --check found changes; 2: no such release, or its flags cannot be read.",
        epilog=f"example: {prog} sglang==0.5.23; {prog} --check",
    )
    parser.add_argument(
        "release",
        metavar="ENGINE==VERSION",
        nargs="?",
        help="a release of an engine, or a range of them ('vllm>=0.32'); with --check, an engine",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say what the newest release changes against the newest catalogue; default: of every engine",
    )
    parser.add_argument("--wheel", metavar="FILE", type=Path, help="the release's wheel; default: read from the index")
    parser.add_argument(
        "--index",
        metavar="URL",
        default=wheel.INDEX,
        help="package index with the PEP 691 JSON API; default: %(default)s",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help=f"writes DIR/ENGINE/VERSION.json; default: the checkout's own catalogues, else {versions.own_folder()}",
    )
    options = parser.parse_args(argv)
    if not options.release and not options.check:
        parser.error("expected ENGINE==VERSION, or --check")
    return options


def read(engine: str, version: str, sources: Path, source: str) -> Catalogue:
    """The catalogue of a release whose Python files are under `sources`; `source` names its wheel.

    Raises:
        ConfigError: no engine of that name, or its definitions cannot be read.
    """
    reader = import_module(f"pipeline.engines.catalogues.{engine}")
    return Catalogue(
        engine=engine,
        version=version,
        source=source,
        abbreviations=reader.takes_abbreviations(sources),
        flags=reader.read(sources),
    )


def _releases(options: argparse.Namespace) -> Iterable[Catalogue]:
    asked = _requirement(options.release)
    # A build's suffix (+cpu) changes no flags.
    exact = [Version(one.version).public for one in asked.specifier if one.operator == "==" and "*" not in one.version]
    found = exact or list(asked.specifier.filter(wheel.releases(asked.name, options.index)))
    if not found:
        raise ConfigError(f"{options.release}: {options.index} has no such release.")
    for version in found:
        yield (
            _read_wheel(asked.name, version, options.wheel)
            if options.wheel
            else _fetched(asked.name, version, options.index)
        )


def _requirement(text: str) -> Requirement:
    try:
        asked = Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(f"{text}: expected ENGINE==VERSION, e.g. sglang==0.5.23.") from error
    _known(asked.name)
    if not asked.specifier:
        raise ConfigError(f"{text}: expected a version after ==, e.g. {asked.name}==1.2.3.")
    return asked


def _engines() -> list[str]:
    modules = FOLDER.glob("*.py")
    return sorted(path.stem for path in modules if "\ndef takes_abbreviations(" in path.read_text("utf-8"))


def _known(engine: str) -> str:
    if engine not in _engines():
        raise ConfigError(f"{engine}: no engine of that name can be read; expected one of {', '.join(_engines())}.")
    return engine


def _asked(engine: str | None) -> list[str]:
    return [_known(engine)] if engine else [name for name in _engines() if versions.versions(name)]


def _check(engine: str, index: str) -> int:
    """Say what the newest release changes; 1 if it changes anything."""
    ours = max(versions.versions(engine), key=Version)
    newest = max(wheel.releases(engine, index), key=Version, default=ours)
    if Version(newest) <= Version(ours):
        sys.stdout.write(f"{engine}: {ours} is the newest release, and there is a catalogue of it\n")
        return 0
    found = changes.between(catalogue.load(engine, ours), _fetched(engine, newest, index))
    told = f"changes {len(found)} flags" if found else "changes no flag"
    sys.stdout.write(f"{engine}: {newest} is out, the newest catalogue is of {ours}; it {told}\n")
    sys.stdout.writelines(f"  {line}\n" for line in found)
    return 1 if found else 0


def _read_wheel(engine: str, version: str, file: Path) -> Catalogue:
    with companion.scratch() as folder:
        wheel.unpack(file, Path(folder))
        return read(engine, version, Path(folder), f"{file.name} sha256:{wheel.sha256(file)}")


def _fetched(engine: str, version: str, index: str) -> Catalogue:
    found = wheel.find(engine, version, index)
    with (
        companion.scratch() as folder,
        Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as shown,
    ):
        task = shown.add_task(found.filename)

        def told(so_far: int, total: int) -> None:
            shown.update(task, completed=so_far, total=total)

        sources = Path(folder) / "sources"
        if not wheel.sources(found, sources, told):
            wheel.unpack(wheel.download(found, Path(folder), told), sources)
        return read(engine, version, sources, f"{found.filename} sha256:{found.sha256}")


def _written(found: Catalogue, to: Path | None) -> Path:
    is_ours = to is None and (PACKAGE.parent / "pyproject.toml").is_file() and os.access(FOLDER, os.W_OK)
    folder = to or (FOLDER if is_ours else versions.own_folder())
    path = folder / found.engine / f"{found.version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_ours:
        path = path.with_name(versions.HISTORY)
        path.write_text(history.merged(found.engine, [found]), "utf-8")
    else:
        path.write_text(to_json(found) + "\n", "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(entry.run(main))
