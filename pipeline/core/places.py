"""Where the files shipped with the code are, next to the package in a checkout, inside it in a wheel; and the cache."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def _shipped(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


CONF, TEMPLATES = _shipped("conf"), _shipped("templates")


def cache_dir() -> Path:
    """$SERVETUNE_CACHE_DIR, else $XDG_CACHE_HOME/servetune."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SERVETUNE_CACHE_DIR") or Path(base) / "servetune")
