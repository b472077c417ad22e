"""What is read of the account of a level."""

import json
from pathlib import Path

from pipeline.bench import ledger


def test_requests_come_in_the_order_of_their_sending(tmp_path: Path) -> None:
    """A failure is known at once; a whole answer is parsed when there is time, maybe after it."""
    client = {"cpu_share": 0.1, "lag_p99_s": 0.001, "lag_max_s": 0.001}
    said = [
        {"planned": 2, "drain_s": 1.0},
        {"begin": 0, "at_s": 10.0, "asked": 4, "is_exact": True},
        {"begin": 1, "at_s": 11.0, "asked": 4, "is_exact": True},
        {"end": 1, "at_s": 11.5, "how": "failed", "cause": "502", "words": "Bad Gateway", "pieces": 0},
        {"end": 0, "at_s": 10.9, "how": "failed", "cause": "reset", "words": "reset", "pieces": 0},
        {"closed": "whole", "duration_s": 3.0, "client": client},
    ]
    (tmp_path / ledger.NAME).write_text("".join(f"{json.dumps(line)}\n" for line in said))
    seen = ledger.read(tmp_path / ledger.NAME)
    assert seen is not None
    assert [request.words for request in seen.requests] == ["reset", "Bad Gateway"]
