"""The prompts of the user's file, read and checked whole; once in a process, until the file changes."""

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.schema_traffic import Traffic
from pipeline.prompts import rows, shapes
from pipeline.prompts.shapes import BadRow, LeftOut, Prompt

KEPT = 4  # files that a process remembers
SAMPLED = 7919  # beside traffic.seed, so that what is taken and how it is dealt are drawn apart


@dataclass(frozen=True, eq=False)  # compared by identity: texts are many
class Own:
    """What a file holds."""

    sha256: str
    in_file: int
    left_out: int
    prompts: tuple[Prompt, ...]  # those that traffic.sample took, in the file's order


@dataclass(frozen=True)
class Asked:
    """What decides which prompts come of a file."""

    path: Path
    format: str
    prompt_field: str | None
    output_field: str | None
    needs_answer: bool
    sample: int | None
    seed: int
    max_file_mb: float


def read(traffic: Traffic) -> Own:
    """The prompts of `traffic.path`; a relative path begins in the working directory.

    Raises:
        ConfigError: the file cannot be used; with the first line that is wrong, or with what differs from
            traffic.sha256.
    """
    if traffic.path is None:
        raise ConfigError("traffic.path has no value: add traffic.path=prompts.jsonl, or another file, to the command.")
    path = traffic.path.expanduser().absolute()
    try:
        seen = path.stat()
        state = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    except OSError:
        state = (0, 0, 0)  # reading it says what is wrong
    asked = Asked(
        path=path if traffic.path.is_absolute() else traffic.path.expanduser(),
        format=traffic.format,
        prompt_field=traffic.prompt_field,
        output_field=traffic.output_field,
        needs_answer=traffic.output_tokens is None,
        sample=traffic.sample,
        seed=traffic.seed,
        max_file_mb=traffic.max_file_mb,
    )
    found = _read(asked, str(path), state)
    _insist_same(traffic, found)
    return found


def insist_unchanged(traffic: Traffic | None) -> None:
    """Accept the file as it is now.

    Raises:
        ConfigError: it is not the one that the traffic is tied to by its sha256.
    """
    if traffic is not None:
        read(traffic)


@lru_cache(KEPT)
def _read(asked: Asked, place: str, state: tuple[int, int, int]) -> Own:
    """By its place and state, too: the same words may name another file later."""
    del place, state
    data = rows.content(asked.path, most_mb=asked.max_file_mb)
    kind = rows.format_of(asked.path, asked.format)
    prompts: list[Prompt] = []
    left_out = 0
    for number, row in rows.rows(asked.path, data, kind):
        try:
            fields = (asked.prompt_field, asked.output_field)
            prompts.append(shapes.prompt(number, row, *fields, needs_answer=asked.needs_answer))
        except LeftOut:
            left_out += 1
        except BadRow as error:
            raise rows.bad(asked.path, number, str(error), place=rows.place(kind)) from error
    if not prompts:
        why = f"all {left_out} conversations in it are without a question" if left_out else "it is empty"
        raise ConfigError(f"{asked.path} has no prompt: {why}.")
    return Own(
        sha256=hashlib.sha256(data).hexdigest(),
        in_file=len(prompts),
        left_out=left_out,
        prompts=tuple(_taken(prompts, asked)),
    )


def _taken(prompts: list[Prompt], asked: Asked) -> list[Prompt]:
    if asked.sample is None or asked.sample >= len(prompts):
        return prompts
    chosen = random.Random(asked.seed + SAMPLED).sample(range(len(prompts)), asked.sample)  # noqa: S311
    return [prompts[index] for index in sorted(chosen)]


def _insist_same(traffic: Traffic, found: Own) -> None:
    if traffic.sha256 and not found.sha256.startswith(traffic.sha256):
        raise ConfigError(
            f"{traffic.path} is another file than before: its SHA-256 begins with {found.sha256[:12]}, expected "
            f"{traffic.sha256[:12]} (traffic.sha256). Trials with different prompts cannot be compared: restore it, or "
            "start a new sweep."
        )
