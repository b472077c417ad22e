from pathlib import Path

import pytest

from pipeline.core.redact import Secrets


@pytest.mark.parametrize("offset", range(-16, 17, 4))
def test_cut_file_keeps_its_end_and_no_part_of_a_secret(tmp_path: Path, offset: int) -> None:
    source, target = tmp_path / "server.log", tmp_path / "copy.log"
    secret, tail = "0123456789012345", "-" * (100 + offset)
    source.write_text("x" * 500 + secret + tail)
    Secrets({"MY_API_KEY": secret}).copy(source, target, limit=100)
    first, _, rest = target.read_text().partition("\n")
    assert first == f"[cut: the last 100 of {500 + 16 + 100 + offset} bytes]"
    assert rest.endswith("-" * 80)
    assert not set(rest) & set(secret)


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        pytest.param({"HF_TOKEN": "longenough"}, "a [redacted] b", id="token"),
        pytest.param({"my_password": "longenough"}, "a [redacted] b", id="lower-case"),
        pytest.param({"HF_TOKEN": "long"}, "a longenough b", id="too-short"),
        pytest.param({"PATH": "longenough"}, "a longenough b", id="not-a-secret"),
        pytest.param({"A_KEY": "longenough", "B_KEY": "longenough b"}, "a [redacted]", id="longest-first"),
    ],
)
def test_redaction(environ: dict[str, str], seen: str) -> None:
    assert Secrets(environ).hide({"text": ["a longenough b", 1, None]}) == {"text": [seen, 1, None]}
