"""Our verdicts on random combinations of knobs against an engine's own configuration code, in its own interpreter.

A refusal of what the engine accepts is the worst bug here. What the engine refuses and we let pass is a gap, and must
be among those that the engine's test names. The scripts that ask the engines: tests/parts/<engine>_oracle.py.
"""

import json
import os
import random
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.config.knobs import check_setting
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.core.values import Scalar
from pipeline.engines.server_command import flags
from pipeline.engines.verdict import judge
from support.places import TESTS

TIMEOUT_S = 900
LEAST_SHARE = 0.3  # of combinations that the engine accepts, and of those that it refuses
MOST_GAPS = 10
SEED = int(os.environ.get("SERVETUNE_TEST_SEED", "1"))
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "head_dim": 64,
    "hidden_size": 256,
    "intermediate_size": 704,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "vocab_size": 480,
}

Combination = Mapping[str, Scalar]
Pool = Mapping[str, Sequence[Scalar]]


@dataclass(frozen=True)
class Oracle:
    """A real engine that is asked: its interpreter, and variables that it needs."""

    engine: str
    python: str
    env: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """The engine's, without what says for which hardware it is built."""
        code = f"import importlib.metadata as m; print(m.version({self.engine!r}))"
        told = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout
        return told.strip().partition("+")[0]

    def base(self, model: Path, hardware: str) -> Config:
        """A trial of this version with no knob set."""
        told = [f"runtime={self.engine}", f"runtime.version={self.version()}", "model=local", f"model.path={model}"]
        with initialize_config_dir(str(CONF)):
            return to_config(composed([*told, f"hardware={hardware}", "traffic.scenarios=['D(64,16)']"]))

    def says(self, platform: str, lines: list[list[str]]) -> list[str | None]:
        """What it says against each command line on `platform`: `cpu`, or a compute capability."""
        done = subprocess.run(
            [self.python, str(TESTS / "parts" / f"{self.engine}_oracle.py"), platform],
            input=json.dumps(lines),
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said: list[str | None] = json.loads(done.stdout.strip().splitlines()[-1])
        return said

    def answers(self, base: Config, platform: str, drawn: Sequence[Combination]) -> "list[Answer]":
        """Both verdicts on each combination."""
        said = self.says(platform, [[*self.first(base), *flags(replace(base, knobs=dict(one)))] for one in drawn])
        return [Answer(one, frozenset(refusals(base, one)), error) for one, error in zip(drawn, said, strict=True)]

    def first(self, base: Config) -> list[str]:
        """The words that name the model."""
        return ["--model-path" if self.engine == "sglang" else "--model", str(base.model.path)]


@dataclass(frozen=True)
class Answer:
    """One combination: what refuses it here, and what the engine says against it."""

    combination: Combination
    refused: frozenset[str]
    error: str | None


def model(folder: Path) -> Path:
    """A small model, as far as configurations need one."""
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


def combinations(pool: Pool, count: int, sizes: Sequence[int]) -> list[Combination]:
    """`count` of them, each with one of `sizes` knobs."""
    drawn = random.Random(SEED)  # noqa: S311  # no secret
    names = [drawn.sample(sorted(pool), drawn.choice(sizes)) for _ in range(count)]
    return [{name: drawn.choice(pool[name]) for name in one} for one in names]


def refusals(base: Config, combination: Combination) -> Iterator[str]:
    """What refuses it here: the rules' names, or what is wrong with a value."""
    try:
        for name, setting in combination.items():
            check_setting(name, base.runtime, setting)
    except ConfigError as error:
        yield str(error)
        return
    knobs = {name: combination.get(name) for name in base.runtime.knobs}
    yield from (one.rule for one in judge(replace(base, knobs=knobs)).findings if one.verdict == "refused")


def agree(seen: Sequence[Answer], gaps: Collection[str]) -> None:
    """Enough of both verdicts, no wrong refusal, and no error that is neither refused nor a known gap."""
    accepted = sum(one.error is None for one in seen)
    assert LEAST_SHARE * len(seen) <= accepted <= (1 - LEAST_SHARE) * len(seen), f"{accepted} of {len(seen)} accepted"
    assert not [one for one in seen if one.refused and one.error is None]
    missed = [one for one in seen if one.error is not None and not one.refused]
    assert not [one for one in missed if not any(re.search(gap, str(one.error), re.DOTALL) for gap in gaps)]
