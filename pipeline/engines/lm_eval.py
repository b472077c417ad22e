"""lm-eval as a program in an environment of its own: its command, its tasks, its results.

Contracts as of lm_eval 0.4.13: the options of `lm_eval run` (_cli/run.py), the model arguments of
`local-completions` and `local-chat-completions` (models/openai_completions.py, models/api_models.py), the index of
tasks (tasks/_index.py), and the files of `--output_path` with `--log_samples` (loggers/evaluation_tracker.py).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.evaluation import Evaluation, Items, Score
from pipeline.core.places import PACKAGE, cache_dir
from pipeline.core.schema_evals import Evals

VERSION = "0.4.13"
PACKAGES = (f"lm_eval[api]=={VERSION}", "transformers")  # the second for log-likelihood tasks: it has the tokenizers
OWN_TASKS = PACKAGE / "evals_tasks"
ANSWERS = ("generate_until",)  # output types that need nothing but answers; all others are of log-probabilities
RETRIES = 3
# What each of these tasks asks of a model; members of groups and tags count. Printed as JSON, unknown ones as null.
LIST = """
import json, sys
from lm_eval.tasks import TaskManager

folder, *names = sys.argv[1:]

def kinds(index, name, seen):
    entry = index.get(name)
    if name in seen:
        return set()
    seen.add(name)
    members = [other for other, one in index.items() if name in (one.tags or ())]
    if entry is None and not members:
        return None
    told = (entry.cfg or {}) if entry else {}
    if isinstance(told.get("task"), list):
        members += [one if isinstance(one, str) else one.get("task") for one in told["task"]]
        told = {}
    found = [kinds(index, one, seen) for one in members if isinstance(one, str)]
    own = {told.get("output_type", "generate_until")} if told else set()
    return own.union(*(one or () for one in found))

for more in (False, True):
    index = TaskManager(include_path=folder, include_defaults=more).task_index
    told = {name: kinds(index, name, set()) for name in names}
    if None not in told.values():
        break
print(json.dumps({name: None if found is None else sorted(found) for name, found in told.items()}))
"""


def python(evals: Evals) -> Path:
    """The interpreter of its environment."""
    return evals.python or cache_dir() / f"lm-eval-{VERSION}" / "bin" / "python"


def how_to_make(evals: Evals) -> str:
    """The commands that make the environment."""
    folder = python(evals).parent.parent
    words = " ".join(f"'{one}'" for one in PACKAGES)
    return f"uv venv {folder} && uv pip install --python {folder}/bin/python {words}"


def tasks_folder(evals: Evals) -> Path:
    """Where task files lie, and the working directory: their data files are named from there."""
    return (evals.include_path or OWN_TASKS).absolute()


def lists(evals: Evals) -> list[str]:
    """The command that says what the tasks ask of a model."""
    return [str(python(evals)), "-c", LIST, str(tasks_folder(evals)), *evals.tasks]


def argv(evals: Evals, *, url: str, served_name: str, out: Path, tokenizer: Path | None = None) -> list[str]:
    """The command that evaluates a server. `tokenizer`: for tasks of log-probabilities."""
    given: dict[str, Any] = {
        "model": served_name,
        "base_url": f"{url}/v1/{'chat/' if evals.chat else ''}completions",
        "num_concurrent": evals.concurrency,
        "max_retries": RETRIES,
        "tokenizer_backend": "huggingface" if tokenizer else "none",
        "tokenized_requests": False,
    }
    if tokenizer:
        given["tokenizer"] = tokenizer
    return [
        *(str(python(evals)), "-m", "lm_eval", "run"),
        *("--model", "local-chat-completions" if evals.chat else "local-completions"),
        *("--model_args", *(f"{name}={told}" for name, told in given.items())),
        *("--tasks", *evals.tasks, "--include_path", str(tasks_folder(evals))),
        *("--log_samples", "--output_path", str(out)),
        *(("--apply_chat_template",) if evals.chat else ()),
        *(("--limit", str(evals.limit)) if evals.limit else ()),
        *(("--num_fewshot", str(evals.num_fewshot)) if evals.num_fewshot is not None else ()),
    ]


def env(evals: Evals, given: Mapping[str, str], key: str | None) -> dict[str, str]:
    """Its environment: the key of the server, no proxies between us and it, no network where none is wanted."""
    named = {"OPENAI_API_KEY": key or "none", "NO_PROXY": "*", "no_proxy": "*", "HF_HUB_DISABLE_TELEMETRY": "1"}
    off = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if evals.offline else {}
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of our own environment, which is not its
    return {**{name: told for name, told in given.items() if name not in left_out}, **named, **off}


def read(out: Path, seconds: float) -> Evaluation:
    """What it has written.

    Raises:
        ValueError: there is no result, or one of another form.
    """
    told = _results(out)
    try:
        return Evaluation(
            scores=tuple(_scores(told)), seconds=round(seconds, 1), version=str(told.get("lm_eval_version", VERSION))
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{out}: results of another form: {type(error).__name__}: {error}") from error


def _results(out: Path) -> dict[str, Any]:
    found = sorted(out.glob("*/results_*.json"))
    if not found:
        raise ValueError(f"{out} has no results_*.json")
    told: dict[str, Any] = json.loads(found[-1].read_text("utf-8"))
    return told


def _scores(told: Mapping[str, Any]) -> Iterator[Score]:
    for task, seen in told["results"].items():
        for key, number in seen.items():
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(number, int | float):
                continue
            error = seen.get(f"{metric}_stderr,{name}")
            yield Score(
                task=task,
                metric=metric,
                filter=name,
                value=float(number),
                error=float(error) if isinstance(error, int | float) else None,
                items=int(told.get("n-samples", {}).get(task, {}).get("effective", 0)),
                is_higher_better=bool(told.get("higher_is_better", {}).get(task, {}).get(metric, True)),
            )


def items(out: Path, evaluation: Evaluation) -> Items:
    """What each item scored, by the hashes of item and prompt: only what is the same is compared."""
    return {one.name: dict(_items(out, one)) for one in evaluation.scores}


def _items(out: Path, score: Score) -> Iterator[tuple[str, float]]:
    for path in sorted(out.glob(f"*/samples_{score.task}_*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            told = json.loads(line)
            if told.get("filter", "none") == score.filter and isinstance(told.get(score.metric), int | float):
                yield (
                    f"{told.get('doc_id')} {told.get('doc_hash')} {told.get('prompt_hash')}",
                    float(told[score.metric]),
                )


def needs_logprobs(kinds: Mapping[str, Sequence[str] | None]) -> list[str]:
    """The tasks that ask for the log-probabilities of given texts."""
    return [name for name, told in kinds.items() if any(kind not in ANSWERS for kind in told or ())]
