"""The flags of an engine, version by version, as read from its released package (`python -m pipeline.catalogues`).

engines/catalogues/<engine>/history.jsonl holds many releases (pipeline/engines/history.py); <version>.json, there or
in the user's own folder, holds one, and wins.
"""

from functools import cache

from pipeline.core.errors import ConfigError
from pipeline.core.schema import Runtime
from pipeline.core.values import Scalar, from_json
from pipeline.engines import history
from pipeline.engines.flags import Catalogue, Flag, Reading
from pipeline.engines.versions import FOLDER, files, is_version, nearest, unknown, versions

__all__ = ["FOLDER", "Catalogue", "Flag", "Reading", "default", "load", "versions"]


@cache
def load(engine: str, version: str) -> Catalogue:
    """The catalogue of one version.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    if version not in versions(engine):
        create = f", or create one: python -m pipeline.catalogues {engine}=={version}" if is_version(version) else ""
        why = unknown(engine, version) or f"there is no flag catalogue for {engine}"
        raise ConfigError(f"runtime.version={version}: {why}. Set the version that you run{create}.")
    own = [path for path in files(engine) if path.stem == version]
    return from_json(Catalogue, own[-1].read_text("utf-8")) if own else history.read(engine, version)


def default(runtime: Runtime, knob: str) -> Scalar | None:
    """What the parser of the runtime's version takes for a knob that is not asked; None: unknown, or decided later.

    Of a version without a catalogue, what the nearest newer or else older one takes.
    """
    known = versions(runtime.name)
    if runtime.version is None or not known or not runtime.knobs[knob].has_flag:
        return None
    version = runtime.version if runtime.version in known else nearest(runtime.version, known)[-1]
    flag = load(runtime.name, version).find(runtime.knobs[knob].spelled(version))
    return flag.default if flag else None
