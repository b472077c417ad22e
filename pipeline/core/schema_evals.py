"""The key `quality.evals` of the configuration: evaluations by lm-eval, of a sweep's winner and its baseline."""

from pathlib import Path

from pydantic import Field

from pipeline.core.values import value


@value
class Evals:
    """What is evaluated, and how. Without tasks, nothing is."""

    tasks: tuple[str, ...] = ()  # names of lm-eval's, or of include_path's
    include_path: Path | None = None  # a folder with task files; None: the one with servetune's own
    python: Path | None = None  # the interpreter of the environment with lm-eval; None: the usual place
    chat: bool = False  # by /v1/chat/completions, in the model's chat template; False: by /v1/completions
    limit: int | None = Field(default=None, ge=1)  # items of each task; None: all
    num_fewshot: int | None = Field(default=None, ge=0)  # examples before each item; None: as the task says
    concurrency: int = Field(default=8, ge=1, le=1024)  # requests at a time
    offline: bool = False  # nothing is fetched from the Hugging Face hub
    timeout_s: float = Field(default=7200.0, gt=0)  # of one configuration's evaluation
    now: bool = False  # this trial is evaluated instead of measured: servetune's own, for the end of a sweep
