"""Reads an engine's flags from its released package: one module per engine, found by the engine's name.

Such a module has two functions, both of the folder that the wheel was unpacked into:

- `read(root: Path) -> tuple[Flag, ...]`: every flag; raises UnreadableError where the definitions are not as expected
- `takes_abbreviations(root: Path) -> bool`: whether the parser takes unambiguous beginnings of flags
"""

from pipeline.core.errors import ConfigError


class UnreadableError(ConfigError):
    """The sources do not define their flags as the reader expects."""
