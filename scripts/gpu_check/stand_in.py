"""sitecustomize of the folder of wheels: stands in for what genai-bench imports at its start and we never call.

Only for those that are not installed. Whatever is asked of such a module is a class that cannot be made.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAMES = ("oci", "oci_openai", "datasets", "matplotlib", "PIL")


class _Absent(type):
    def __getattr__(cls, name: str) -> "_Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(name, (), {})

    def __call__(cls, *words: object, **named: object) -> object:
        raise RuntimeError(f"gpu-check stands in for this package, and {cls.__name__} was called")


class _Module(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.isupper():  # a constant, e.g. the default of an option
            return name
        if name.endswith(("Error", "Exception")):  # something is to be caught by it
            return type(name, (Exception,), {})
        return _Absent(name, (), {})


class StandIn(MetaPathFinder, Loader):
    """Found last, so what is installed is found before it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a package that is stood in for, and of each of its modules."""
        if name.partition(".")[0] not in NAMES:
            return None
        return ModuleSpec(name, self, origin="gpu-check", is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module in which every name is bound."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its names are made when they are asked for."""


sys.meta_path.append(StandIn())
