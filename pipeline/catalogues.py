"""`python -m pipeline.catalogues sglang==0.5.23`: write down every flag of a released engine, read from its sources."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from packaging.version import InvalidVersion, Version
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from pipeline.core.errors import ConfigError
from pipeline.core.values import to_json
from pipeline.engines.catalogue import FOLDER, Catalogue
from pipeline.engines.catalogues import wheel
from pipeline.machine import entry


def main(argv: Sequence[str] | None = None, prog: str = "python -m pipeline.catalogues") -> int:
    """The command. 0: written; 2: there is no such engine or version, or its definitions cannot be read."""
    options = _options(argv, prog)
    try:
        engine, version = _release(options.release)
        with tempfile.TemporaryDirectory() as folder:
            file = options.wheel or _fetched(engine, version, options.index, Path(folder))
            found = read(engine, version, file, Path(folder) / "sources")
        path = _written(found, options.to)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{path}: {len(found.flags)} flags, read from {found.source}\n")
    return 0


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Read every command-line flag of an engine release from its wheel and save them as a catalogue. "
        "Then runtime.version=VERSION works: knobs are checked against the flags of that version. "
        "The engine is neither installed nor run. Exit code 2: no such release, or its flags cannot be read.",
        epilog=f"example: {prog} sglang==0.5.23",
    )
    parser.add_argument("release", metavar="ENGINE==VERSION", help="a release of sglang or vllm")
    parser.add_argument(
        "--wheel", metavar="FILE", type=Path, help="the release's wheel; default: downloaded from the index"
    )
    parser.add_argument(
        "--index",
        metavar="URL",
        default=wheel.INDEX,
        help="package index with the PEP 691 JSON API; default: %(default)s",
    )
    parser.add_argument(
        "--to", metavar="DIR", type=Path, default=FOLDER, help="writes DIR/ENGINE/VERSION.json; default: %(default)s"
    )
    return parser.parse_args(argv)


def read(engine: str, version: str, file: Path, sources: Path) -> Catalogue:
    """The catalogue of the wheel in `file`, unpacked into `sources`.

    Raises:
        ConfigError: no wheel, no engine of that name, or its definitions cannot be read.
    """
    reader = import_module(f"pipeline.engines.catalogues.{engine}")
    wheel.unpack(file, sources)
    return Catalogue(
        engine=engine,
        version=version,
        source=f"{file.name} sha256:{wheel.sha256(file)}",
        abbreviations=reader.takes_abbreviations(sources),
        flags=reader.read(sources),
    )


def _release(text: str) -> tuple[str, str]:
    engine, _, version = text.partition("==")
    modules = FOLDER.glob("*.py")
    engines = sorted(path.stem for path in modules if "\ndef takes_abbreviations(" in path.read_text("utf-8"))
    if engine not in engines:
        raise ConfigError(f"{text}: no engine of that name can be read; expected one of {', '.join(engines)}.")
    try:
        return engine, Version(version).public  # a build's suffix (+cpu) changes no flags
    except InvalidVersion as error:
        raise ConfigError(f"{text}: expected a version after ==, e.g. {engine}==1.2.3.") from error


def _fetched(engine: str, version: str, index: str, folder: Path) -> Path:
    found = wheel.find(engine, version, index)
    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as shown:
        task = shown.add_task(found.filename)
        return wheel.download(found, folder, lambda so_far, total: shown.update(task, completed=so_far, total=total))


def _written(found: Catalogue, folder: Path) -> Path:
    path = folder / found.engine / f"{found.version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(found) + "\n", "utf-8")
    return path


if __name__ == "__main__":
    sys.exit(entry.run(main))
