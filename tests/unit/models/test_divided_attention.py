"""What SGLang sets aside where attention is divided (0.5.23, arg_groups/memory_hook.py:371-377)."""

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.models.memory import need


@pytest.mark.parametrize(
    ("groups", "requests", "mib"),
    [(1, 512, 1024), (8, 512, 1024 + 512 * 8 * 4.5), (8, 256, 512 + 256 * 8 * 3), (2, 256, 512 + 256 * 2 * 3)],
)
def test_larger_graphs_of_more_groups_take_more(groups: int, requests: int, mib: float) -> None:
    with initialize_config_dir(str(CONF)):
        words = ["runtime=sglang", "model=deepseek_v3", "hardware=h100", "tp_size=8", f"attn_dp_size={groups}"]
        config = to_config(composed([*words, f"max_running_requests={requests}"]))
    found = need(config, config.knobs)
    assert found is not None
    parts = 512 + 8192 * 1.5 + 1024 + mib + 1536
    assert found.reserve_gib == pytest.approx(max(10, parts / 1024))
