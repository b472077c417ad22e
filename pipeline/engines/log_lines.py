"""Picks the lines of an engine's log that may tell why it ended: the errors, without prefixes and interpreters' noise.

Interpreters tell at their end what they could not tidy: leaked semaphores and shared memory, tasks that were still
pending, exceptions in destructors. That follows from a death, and is never the reason for it.
"""

import re
from collections.abc import Iterator

LOG_END = 256 * 1024  # bytes or characters; eight ranks' tracebacks, printed twice, are longer than one thinks
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(
    r"^\([\w. -]+ pid=\d+\) ?"  # vLLM: (EngineCore pid=104)
    r"|^(ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?"  # vLLM
    r"|^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] ?"  # SGLang: [2026-01-31 08:01:02 TP0]
    r"|^\[rank\d+\]: ?"  # torch
    r"|^(\d+\.)+\d+ (?=[EWID] )|^E "  # llama.cpp
)
_NOISE = re.compile(
    r"(INFO|WARNING|DEBUG)(:| \d\d-\d\d )|[IWD] |.*(User|Future|Deprecation|Resource)Warning:|\s*warnings\.warn\("
    r"|.*resource_tracker: |Task was destroyed but it is pending|task: <Task pending"
    r"|Ignore import error when loading "  # SGLang, of every model that it does not serve
    r"|Dumping (input data|scheduler) "  # vLLM tells its whole configuration, with all words that are in it
)
_ASIDE = re.compile(r"Exception ignored (in|on)\b")  # its traceback follows
_BEGIN = "Traceback (most recent call last):"  # behind `Scheduler hit an exception: ` in SGLang
_TRACKER = "multiprocessing/resource_tracker.py"  # CPython's: its process complains of what others have removed


def errors(log: str) -> list[str]:
    """The lines of the log's end without their prefixes, but for those that tell of no error, and for source code."""
    kept: list[str] = []
    frame = ""
    is_trace = is_aside = False
    for text in _plain(log):
        if _ASIDE.match(text):
            is_aside, is_trace = True, False
        elif text.endswith(_BEGIN):
            is_trace, frame = True, ""
        elif is_trace and text.startswith("  "):
            frame = text if text.startswith("  File ") else frame
        elif is_trace:  # what was raised
            if not is_aside and _TRACKER not in frame:
                kept.append(text)
            is_aside = is_trace = False
        elif not (is_aside and text.startswith(" ")):
            is_aside = False
            kept.append(text)
    return [text for text in kept if text and not _NOISE.match(text)]


def _plain(log: str) -> Iterator[str]:
    for line in _COLOUR.sub("", log[-LOG_END:]).splitlines():
        text, before = line, ""
        while text != before:
            before, text = text, _PREFIX.sub("", text)
        yield text.rstrip()
