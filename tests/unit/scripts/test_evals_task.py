"""The items of servetune's own evaluation are those of their script."""

from pathlib import Path

import evals_task


def test_the_items_are_the_scripts_own(tmp_path: Path) -> None:
    evals_task.main([str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_text() == evals_task.FILE.read_text()
    items = [*evals_task.items()]
    assert len(items) == len({item["question"] for item in items}) == 120
