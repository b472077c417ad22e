"""Templates filled in and read back: no value can break out of its field, or become another one on the way. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import ConfigError
from pipeline.core.places import TEMPLATES

if TYPE_CHECKING:
    from jinja2 import Environment

TEXT = "tag:yaml.org,2002:str"
PLAIN = re.compile(r"[A-Za-z/][\w./-]+$")


def fill(template: str, **values: Any) -> dict[str, Any]:
    """The template with these values, as YAML reads it.

    Raises:
        ConfigError: a text that Kubernetes cannot hold, such as half a character.
    """
    import yaml

    for path, text in _texts(values, template.partition(".")[0]):
        if "\0" in text or not _is_text(text):
            raise ConfigError(f"{path}: {text!r} contains characters that Kubernetes cannot store.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    made: dict[str, Any] = yaml.load(_templates().get_template(template).render(**values), Loader=loader)  # noqa: S506
    return made


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """The manifests as kubectl takes them."""
    import yaml

    text: str = yaml.dump_all(documents, Dumper=_dumper(), sort_keys=False, explicit_start=True, width=10**6)
    return text


def must_hold(made: Mapping[str, Any], *promises: tuple[str, Any]) -> None:
    """Compare what a manifest says, by dotted path, with what it should say.

    Raises:
        ConfigError: naming the field.
    """
    for path, wanted in promises:
        found: Any = made
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found != wanted:
            raise ConfigError(f"{made.get('kind')} {path}: expected {wanted!r}, the rendered manifest says {found!r}.")


def refuse_braces(container: Mapping[str, Any]) -> None:
    """OME renders the container as a Go template: braces of ours would fail there, minutes later.

    Raises:
        ConfigError: naming the field.
    """
    for path, text in _texts(container, str(container["name"])):
        if "{{" in text:
            raise ConfigError(
                f"{path}: remove '{{{{' from {text!r}, or put a space between the braces if it is JSON: "
                "OME would read it as a template."
            )


def unexpanded(text: str) -> str:
    """What the kubelet makes `text` of: it puts variables for `$(NAME)`, and one `$` for `$$`.

    Source: Kubernetes, third_party/forked/golang/expansion/expand.go.
    """
    return re.sub(r"\$\$+|\$(?=\()", lambda found: found[0] * 2, text)


def _texts(node: object, path: str) -> Iterator[tuple[str, str]]:
    """Every text in `node` and where it is, keys among them."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        for key, item in node.items():
            yield f"{path}: the key", str(key)
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for spot, item in enumerate(node):
            yield from _texts(item, f"{path}[{spot}]")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _dumper() -> Any:
    """A dumper that quotes all but plain words: kubectl reads 1e3 as a number and y as true, Python's YAML does not."""
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    made: Any = type("Dumper", (base,), {})
    made.add_representer(str, lambda dumper, text: dumper.represent_scalar(TEXT, text, style=_style(text)))
    return made


def _style(text: str) -> str | None:
    return None if PLAIN.match(text) else '"'


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(loader=FileSystemLoader(TEMPLATES / "ome"), undefined=StrictUndefined, autoescape=False)  # noqa: S701 - tojson does it
    made.policies["json.dumps_function"] = _json
    made.policies["json.dumps_kwargs"] = {}
    return made


def _json(item: object) -> str:
    """JSON in ASCII that YAML reads as it was meant: YAML does not join the halves of JSON's surrogate pairs."""
    text = json.dumps(item, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", text)
