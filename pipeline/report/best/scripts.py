"""Shell scripts: the engine's command, the pipeline's, and the one that checks again. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.plan import Assets
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.engines import purpose, server_command
from pipeline.models import assets
from pipeline.report import command as own

MODEL, RUN_DIR, LISTEN, PORT = "/SERVETUNE_MODEL", "/SERVETUNE_RUN_DIR", "/SERVETUNE_LISTEN", "{port}"
VARIABLES = {MODEL: '"$MODEL"', RUN_DIR: '"$RUN_DIR"', LISTEN: '"$LISTEN"', PORT: '"$PORT"'}
USUAL_LISTEN, USUAL_PORT = "127.0.0.1", "8000"
HEAD = "#!/bin/sh\n"
_PLACES = Assets(model_path=Path(MODEL), tokenizer_dir=Path(MODEL))


def serve(winner: Record) -> dict[str, str]:
    """The engine's command line as a script; model, address, port and working folder are variables."""
    config = purpose.handed_over(winner.config)
    words = server_command.argv(config, _PLACES, Path(RUN_DIR), host=LISTEN)
    model = assets.expected(config.model).model_path
    lines = [
        f"{HEAD}# The engine of trial {winner.trial_id}: {config.runtime.name} {config.runtime.version or ''}".rstrip(),
        "# It answers this machine only. LISTEN=0.0.0.0 opens it to others: put a key or a proxy before it first.",
        "set -eu",
        f': "${{MODEL:={model}}}" "${{LISTEN:={USUAL_LISTEN}}}" "${{PORT:={USUAL_PORT}}}"',
        *(["RUN_DIR=$(mktemp -d)"] if any(RUN_DIR in word for word in words) else []),
        *environment(config),
        f'exec {command_line(words)} "$@"',
    ]
    return {"serve.sh": "\n".join(lines) + "\n"}


def server_line(winner: Record) -> str:
    """What serve.sh runs where no variable of it is set, on one line to paste; secrets are not in it.

    Of a server that was there already, where it is.
    """
    if winner.config.backend.url:
        return f"{winner.config.backend.url} (it was there already)"
    config = purpose.handed_over(winner.config)
    model = shlex.quote(str(assets.expected(config.model).model_path))
    usual = {MODEL: model, RUN_DIR: '"$(mktemp -d)"', LISTEN: USUAL_LISTEN, PORT: USUAL_PORT}
    words = server_command.argv(config, _PLACES, Path(RUN_DIR), host=LISTEN)
    variables = [f"{name}={shlex.quote(text)}" for name, text in config.runtime.env.items()]
    return " ".join([*variables, *(_quoted(word, usual) for word in words)])


def withheld(winner: Record) -> dict[str, str]:
    """What was set while measuring and is not handed over, with the reason; places as serve.sh calls them."""
    if winner.config.backend.is_endpoint:
        return {}
    return {_called(what, winner.config): why for what, why in purpose.withheld(winner.config)}


def _called(what: str, config: Config) -> str:
    filled = server_command.filled(what, config, _PLACES, Path(RUN_DIR), host=LISTEN)
    return re.sub("|".join(map(re.escape, VARIABLES)), lambda found: VARIABLES[found[0]].strip('"'), filled)


def environment(config: Config) -> list[str]:
    """The engine's variables; the value of a secret comes from ours of its name, where that is set."""
    plain = [f"export {name}={shlex.quote(text)}" for name, text in config.runtime.env.items()]
    secrets = config.runtime.secret_env.items()
    return plain + [f'[ -z "${{{ours}:-}}" ] || export {name}="${ours}"' for name, ours in secrets]


def command_line(words: Sequence[str], variables: Mapping[str, str] = VARIABLES) -> str:
    """The words, quoted for sh, with variables where their places are; a line for each flag."""
    quoted = [_quoted(word, variables) for word in words]
    return "".join(f" \\\n  {word}" if word.startswith("-") and i else f" {word}" for i, word in enumerate(quoted))[1:]


def _quoted(word: str, variables: Mapping[str, str]) -> str:
    if not any(place in word for place in variables):
        return shlex.quote(word)
    parts = re.split(f"({'|'.join(map(re.escape, variables))})", word)
    return "".join(variables.get(part) or shlex.quote(part) for part in parts if part)


def command(winner: Record) -> str:
    """The pipeline's own command for the trial, from any folder."""
    origin = winner.origin
    words = shlex.join([*own.options(origin), *winner.overrides])
    lines = [
        *(_setting(name, text) for name, text in origin.variables.items()),
        *([f"[ ! -d {shlex.quote(origin.folder)} ] || cd {shlex.quote(origin.folder)}"] if origin.folder else []),
        f'set -- {words} "$@"',
    ]
    before = "set -eu\n" if len(lines) > 1 else ""
    return HEAD + before + "".join(f"{line}\n" for line in lines) + _either("servetune", "pipeline", origin.program)


def _setting(name: str, text: str | None) -> str:
    """A variable that the configuration reads: the shell's own, else as it was. A secret is the shell's alone."""
    if text is None:
        return f': "${{{name}:?it was set for the sweep, and is not written down}}"; export {name}'
    return f'[ -n "${{{name}+set}}" ] || export {name}={shlex.quote(text)}'


def overrides(winner: Record) -> str:
    """The overrides, one a line; what is no override in comments before them."""
    origin = winner.origin
    lines = [
        *([f"# cd {shlex.quote(origin.folder)}"] if origin.folder else []),
        *(
            f"# export {name}=" + ("..." if text is None else shlex.quote(text))
            for name, text in origin.variables.items()
        ),
        *([own.override(origin.searchpath)] if origin.searchpath else []),
        *winner.overrides,
    ]
    return "".join(f"{line}\n" for line in lines)


def recheck(winner: Record) -> str:
    """One command that measures the best configuration again and compares it with the card."""
    ways = _either("servetune recheck", "pipeline.recheck", winner.origin.program)
    return f'{HEAD}set -- "$(dirname "$0")" "$@"\n{ways}'


def _either(installed: str, module: str, program: str | None) -> str:
    """The command by its name if it is on PATH, as after `uv tool install`; by the interpreter that ran it; by any."""
    python = shlex.quote(program or "python")
    return "".join(
        [
            f'if command -v servetune >/dev/null; then exec {installed} "$@"; fi\n',
            f'if [ -x {python} ]; then exec {python} -m {module} "$@"; fi\n' if program else "",
            f'exec python -m {module} "$@"\n',
        ]
    )
