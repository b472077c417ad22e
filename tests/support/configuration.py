"""The configuration of stand-ins, parsed before a process forks: forks have what read_once.py of ours has kept."""

from hydra import initialize_config_dir

from pipeline.config import spaces
from pipeline.core.places import CONF
from support.places import FAKES

WORDS = (f"hydra.searchpath=[file://{FAKES}/conf]", "tracker=none", "traffic=two_levels", "model=gguf", "runtime=stub")


def read() -> None:
    """Compose what nearly every command of the tests does; a file that a test changes is another one."""
    with initialize_config_dir(str(CONF)):
        for sweeper in ("basic", "tuner"):
            spaces.composed([*WORDS, f"hydra/sweeper={sweeper}"])
