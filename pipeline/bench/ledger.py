"""Reads `requests.jsonl`, in which pipeline/bench/watcher.py wrote down what became of every request of a level."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import arrivals
from pipeline.core.arrivals import Span
from pipeline.core.errors import BenchFailed
from pipeline.core.record import Client
from pipeline.core.requests import Measurement, Request, is_burst

NAME = "requests.jsonl"
ABORTED = ("abort", "error", "cancelled")  # vLLM, SGLang: the server gave up
COVERED = 0.75  # of the tokens that a server counts, by its text: some have none of their own
RECOUNTED = 0.9  # of the tokens asked: text that is cut into tokens again may give fewer than it was made of
Line = Mapping[str, Any]


def read(path: Path) -> Measurement | None:
    """The requests of a level that came to its end, in the order of their sending; None without such an end or file.

    Raises:
        BenchFailed: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        lines = [*_lines(path.read_text("utf-8"))]
        last = next((line for line in reversed(lines) if "closed" in line), None)
        return _measurement(lines, last) if last else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise BenchFailed(f"Cannot read {path}: {type(error).__name__}: {error}") from error


def _lines(text: str) -> Iterator[Line]:
    """A last line without its end was being written when the writer was killed."""
    whole, _, _ = text.rpartition("\n")
    yield from map(json.loads, filter(None, whole.split("\n")))


def _measurement(lines: Sequence[Line], last: Line) -> Measurement:
    head = next(line for line in lines if "planned" in line)
    begun = {line["begin"]: line for line in lines if "begin" in line}
    counted = {line["counted"]: line["text_tokens"] for line in lines if "counted" in line}
    ends = sorted((line for line in lines if "end" in line), key=lambda line: begun[line["end"]]["at_s"])
    is_cut = last["closed"] == "cut"
    ended_s = [line["at_s"] for line in ends if "at_s" in line]
    started_s = min((line["at_s"] for line in begun.values()), default=0.0)
    until_s = last["duration_s"] if is_cut or not ended_s else max(ended_s)
    return Measurement(
        run_duration_s=until_s - started_s,
        requests=tuple(_request(begun[line["end"]], line, counted.get(line["end"])) for line in ends),
        planned=head["planned"],
        is_cut=is_cut,
        drain_s=head["drain_s"],
        client=Client(**last["client"]),
        arrivals=arrivals.seen([*_spans(begun, ends)], head["rate"]) if head.get("rate") else None,
        notes=(*_notes(ends), *_of_prompts(last)),
    )


def _spans(begun: Mapping[int, Line], ends: Sequence[Line]) -> Iterator[Span]:
    """From sending to end, where it had one."""
    for line in ends:
        begin, is_open = begun[line["end"]], line["how"] in ("open", "stopped")
        ended_s = None if is_open else line["at_s"]
        yield Span(begin["at_s"], ended_s, begin.get("late_s", 0.0), begin.get("is_held", False))


def _request(begin: Line, end: Line, text_tokens: int | None) -> Request:
    if end["how"] != "answered":
        first_s = 0.0 if end.get("pieces") else None  # it had begun to come: no limit on the first token is missed
        return Request(
            ttft_s=first_s, tpot_s=None, e2e_s=None, input_tokens=0, output_tokens=0, ending=end["how"],
            cause=end.get("cause"), words=end.get("words"), asked_tokens=begin["asked"],
            open_s=end.get("open_s", 0.0), silent_s=end.get("silent_s", 0.0),
        )  # fmt: skip
    tokens = _tokens(begin, end, text_tokens)
    is_whole = tokens > 1 and is_burst(pieces=end["pieces"], span_s=end["span_s"], e2e_s=end["e2e_s"])
    return Request(
        ttft_s=end["ttft_s"],
        tpot_s=None if is_whole or tokens < 2 else _tpot(end, tokens),
        e2e_s=end["e2e_s"],
        input_tokens=end["input_tokens"] or 0,
        cached_tokens=end.get("cached_tokens"),
        output_tokens=tokens,
        fault=_fault(begin, end, tokens, text_tokens),
        is_in_one_piece=is_whole,
        lag_s=end["lag_s"],
        asked_tokens=begin["asked"],
    )


def _tokens(begin: Line, end: Line, text_tokens: int | None) -> int:
    """As the server counts them, else the pieces or what the tokenizer makes of the text, but not more than asked."""
    most = begin["asked"] or float("inf")  # what a server counts beyond that is no throughput
    seen = end["output_tokens"] if end["output_tokens"] is not None else max(end["pieces"], text_tokens or 0)
    return int(min(seen, most))


def _tpot(end: Line, tokens: int) -> float | None:
    """The time per token after those that came first: one, as genai-bench has it, where every token comes by itself."""
    is_single = end["pieces"] >= 0.9 * tokens
    share = end["head_pieces"] / end["pieces"] if is_single else end["head_chars"] / max(1, end["chars"])
    later = tokens - max(1, round(share * tokens))
    return (end["e2e_s"] - end["ttft_s"]) / later if later > 0 else None


def _fault(begin: Line, end: Line, tokens: int, text_tokens: int | None) -> str | None:
    """What is wrong with the shape of an answer, if anything is."""
    return next(_faults(begin, end, tokens, text_tokens), None)


def _faults(begin: Line, end: Line, tokens: int, text_tokens: int | None) -> Iterator[str]:
    asked, said, finish, pieces = begin["asked"] or 0, end["output_tokens"], end["finish_reason"], end["pieces"]
    if finish in ABORTED:
        yield f"finish reason {finish}"
    least = asked if said is not None else RECOUNTED * asked
    if begin["is_exact"] and tokens < least and pieces < asked:
        yield f"{tokens} of {asked} tokens"
    if not begin["is_exact"] and finish is None:
        yield "no finish reason"
    seen = max(pieces, text_tokens or 0)
    if said is not None and text_tokens is not None and seen < (COVERED if finish else RECOUNTED) * said:
        yield f"the server counts {said} tokens, its text has {seen}"
    if said is not None and pieces > 2 * said:
        yield f"the server counts {said} tokens, its text came in {pieces} pieces"
    if asked and pieces > asked + 1:  # a tolerance for engines that count the end of the text
        yield f"{pieces} pieces, where at most {asked} tokens were asked for"
    if asked and (said or 0) > asked + 1:
        yield f"{said} tokens, where at most {asked} were asked for"


def _notes(ends: Sequence[Line]) -> Iterator[str]:
    open_ended = sum(line["how"] == "answered" and not line["is_done"] for line in ends)
    if open_ended:
        yield f"{open_ended} answers ended without [DONE]"
    uncounted = sum(line["how"] == "answered" and line["output_tokens"] is None for line in ends)
    if uncounted:
        yield f"{uncounted} answers came without usage: their tokens were counted with the model's tokenizer"


def _of_prompts(last: Line) -> Iterator[str]:
    if late := last.get("late_prompts"):
        yield f"{late} prompts were made while the level ran, because there are so many"
