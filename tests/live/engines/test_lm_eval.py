"""The real lm-eval evaluates a server by servetune's own items, and talks to nobody else."""

import subprocess
from pathlib import Path

import pytest

from parts import lm_eval_env
from pipeline.core.evaluation import FOLDER
from pipeline.engines import lm_eval
from support.cli import pipeline

PATIENCE_S = 580.0
# Read by Python when it starts: what would leave this machine is refused, and written down
GUARD = """
import ipaddress, socket

def guarded(plain):
    def connect(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
            with open({log!r}, "a") as file:
                file.write(f"{{address}}\\n")
            raise OSError("blocked by the test")
        return plain(self, address, *rest)
    return connect

def asked(host, *rest, plain=socket.getaddrinfo, **named):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        with open({log!r}, "a") as file:
            file.write(f"{{host}}\\n")
        raise socket.gaierror("blocked by the test")
    return plain(host, *rest, **named)

socket.socket.connect, socket.socket.connect_ex = guarded(socket.socket.connect), guarded(socket.socket.connect_ex)
socket.getaddrinfo = asked
"""

pytestmark = pytest.mark.live


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """The interpreter with lm-eval, for whom there is no network but this machine."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD.format(log=str(guard / "tried")))
    program = guard / "python"
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={guard} {lm_eval_env.python()} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.timeout(PATIENCE_S + 10)
def test_our_items_need_no_network(tmp_path: Path, tiny_gguf: Path, cut_off: Path) -> None:
    result = pipeline(
        "quality=evals", f"quality.evals.python={cut_off}", "quality.evals.offline=true", "quality.evals.now=true",
        folder=tmp_path / "out", gguf=tiny_gguf, timeout_s=PATIENCE_S,
    )  # fmt: skip
    record = result.record
    assert record.status == "ok", record.failure
    assert record.evaluation is not None
    (score,) = record.evaluation.scores
    assert (score.name, score.items) == ("servetune_words exact_match (first_word)", 120)
    assert score.value == pytest.approx(40 / 120)  # the stand-in repeats a word where it is asked to, and elsewhere too
    assert score.error == pytest.approx((40 / 120 * 80 / 120 / 119) ** 0.5, rel=1e-3)
    items = lm_eval.items(result.folder / "0" / FOLDER, record.evaluation)[score.name]
    assert (len(items), sum(items.values())) == (120, 40)
    assert not (cut_off.parent / "tried").exists()


def test_the_network_is_cut_off(cut_off: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([cut_off, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "blocked by the test" in done.stderr
    assert (cut_off.parent / "tried").exists()
