"""Completion at the prompt of real shells: what Tab makes of a word, `=` and lists included."""

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from parts import lacking

pytestmark = [pytest.mark.live]

PATIENCE_S = 120.0
READY = "ready-for-words"
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOAD = {
    "bash": 'eval "$(servetune --completion bash)"',
    "zsh": 'eval "$(servetune --completion zsh)"',
    "fish": "servetune --completion fish | source",
}
TYPED = {
    "command": ("doct", "doctor "),
    "group": ("hydra/la", "hydra/launcher="),
    "option": ("runtime=sg", "runtime=sglang "),
    "knob": ("runtime=sglang page_s", "page_size="),
    "value": ("cont_batching=tr", "cont_batching=true "),
    "list": ("-m runtime=sglang attention_backend=fa3,flashi", "attention_backend=fa3,flashinfer "),
    "setting": ("traffic.min", "traffic.min_requests="),
    "metric": ("objective=slo_", "objective=slo_attainment "),
    "file-after-equals": ("model.path=./only-o", "model.path=./only-one.gguf "),
    "file-of-a-command": ("report ./only-o", "report ./only-one.gguf "),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one file, and `servetune` on PATH."""
    program = Path(sys.executable).with_name("servetune")
    if not program.exists():
        lacking(f"{program} is not there (make setup)")
    (tmp_path / "only-one.gguf").touch()
    (tmp_path / "run").mkdir(mode=0o700)  # fish's own; else it makes one in /tmp
    of_home = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    for name, value in {**of_home, "TERM": "dumb", "PS1": "", "INPUTRC": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path


@contextmanager
def prompt(shell: str, folder: Path) -> Iterator[int]:
    """An interactive shell that has read the completion; what it is typed goes into this terminal."""
    ours, its = pty.openpty()
    argv = ["setsid", "--ctty", *SHELLS[shell]]  # a shell without a terminal of its own is not at a prompt
    with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, cwd=folder) as child:
        os.close(its)
        try:
            os.write(ours, f"{LOAD[shell]}; printf '%s-%s\\n' ready for-words\n".encode())
            await_words(ours, READY)
            yield ours
        finally:
            child.kill()
            os.close(ours)


def await_words(terminal: int, words: str) -> None:
    """Read until the terminal shows them."""
    seen = b""
    while words.encode() not in seen:
        more = b""
        ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
        with suppress(OSError):  # the shell is gone
            more = os.read(terminal, 65536) if ready else b""
        assert more, f"waited for {words!r}, saw {seen.decode(errors='replace')!r}"
        seen += more


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_a_word(home: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        lacking(f"{shell} is not installed")
    with prompt(shell, home) as terminal:
        for begun, made in TYPED.values():
            os.write(terminal, f"servetune {begun}\t".encode())
            await_words(terminal, made)
            os.write(terminal, b"\x15")  # Ctrl-U: an empty line again


def test_bash_keeps_its_own_words_apart_as_before(home: Path) -> None:
    """Hydra's script takes `=` out of COMP_WORDBREAKS, which all completions of the shell share."""
    words = 'before=$COMP_WORDBREAKS; eval "$(servetune --completion bash)"; [ "$before" = "$COMP_WORDBREAKS" ]'
    subprocess.run(["bash", "--norc", "-ic", words], cwd=home, check=True, start_new_session=True)
