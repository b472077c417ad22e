"""The sampler of the benchmarks proposes what a list says, however Hydra spells it."""

import json
from pathlib import Path

from benchmarks.parts.listed import Listed
from pipeline.sweep.search.policy import Next
from pipeline.sweep.search.space import Choice, Space
from pipeline.sweep.search.study import in_memory


def test_a_list_is_gone_through_in_its_order(tmp_path: Path) -> None:
    rows = [{"batching": "false", "slots": "8"}, {"batching": "null", "slots": "2"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    dimensions = (Choice(name="batching", values=("null", "False")), Choice(name="slots", values=("2", "8", "null")))
    study = in_memory(Space(dimensions=dimensions), ["maximize"])
    study.optuna.sampler = Listed(str(tmp_path / "list.json"))
    assert [study.begin(Next()).params for _ in rows] == [{"batching": "False", "slots": "8"}, rows[1]]
