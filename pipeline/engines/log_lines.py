"""Picks the lines of an engine's log that may tell why it ended: the errors, without prefixes and interpreters' noise.

Interpreters tell at their end what they could not tidy: leaked semaphores and shared memory, tasks that were still
pending, exceptions in destructors. That follows from a death, and is never the reason for it. What a thread or a task
says that nobody waited for (`Exception in thread`), and what a rank says whose neighbour is gone (NCCL's watchdog), is
an aside: it may be the reason, but not where an error came before it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple

LOG_END = 256 * 1024  # bytes or characters; eight ranks' tracebacks, printed twice, are longer than one thinks
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WRITER = re.compile(r"^\([\w. =-]+ pid=\d+(, ip=[\w.:]+)?\) ?|^\[rank\d+\]: ?")  # vLLM: (EngineCore pid=104); torch
_RECORD = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] ?")  # SGLang: [2026-01-31 08:01:02 TP0], once a record
_PREFIX = re.compile(
    r"^(ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?"  # vLLM
    r"|^(\d+\.)+\d+ (?=[EWID] )|^E "  # llama.cpp
    r"|^ +\| |^ +\+ (?=Exception Group Traceback)"  # CPython, of each line of an exception group
)
_NOISE = re.compile(
    r"(INFO|WARNING|DEBUG)(:| \d\d-\d\d )|[IWD] |.*(User|Future|Deprecation|Resource)Warning:|\s*warnings\.warn\("
    r"|.*resource_tracker: |Task was destroyed but it is pending|task: <Task pending"
    r"|Ignore import error when loading "  # SGLang, of every model that it does not serve
    r"|Dumping (input data|scheduler) "  # vLLM tells its whole configuration, with all words that are in it
)
_IGNORED = re.compile(r"Exception ignored\b")  # in a destructor, at exit; its traceback follows, or its exception alone
_UNHEARD = re.compile(
    r"(ERROR:asyncio:)?(Exception in (thread|callback|default exception handler)\b"
    r"|(Task|Future) exception was never retrieved|Unhandled exception in event loop|Error in atexit\.)"
)  # CPython's threading.py and asyncio
_OF_UNHEARD = re.compile(r"(future|handle|task|transport|protocol|source_traceback|object): ")
_SEQUEL = re.compile(
    r"\s*what\(\):|terminate called |.*(ProcessGroupNCCL\.cpp:\d+\] |[Ww]atchdog (caught|thread)|ncclRemoteError"
    r"|remote process exited|DistNetworkError|Connection closed by (remote )?peer|Connection was likely closed)"
)  # torch 2.13: what a rank says when another one is gone, and libstdc++ of what ended a process
_BEGIN = "Traceback (most recent call last):"  # behind `Scheduler hit an exception: ` in SGLang
_FRAME = re.compile(r'  File "[^"]+", line \d+')
_GOES_ON = re.compile(
    r"(During handling of|The above exception was)\b|\s*\+-"
)  # the last: between a group's exceptions
_RAISED = re.compile(r"(\w+\.)*[A-Z]\w*(: |$)")
_TRACKER = "multiprocessing/resource_tracker.py"  # CPython's: its process complains of what others have removed
_FULL = re.compile(r".*No space left on device$")  # nothing says where
_PLACE = re.compile(r'File "(?:.*/)?([^/"]+/[^/"]+)", line \d+')

Part = Literal["error", "aside", "noise"]


class Line(NamedTuple):
    """A line that may tell a cause, without its prefixes. `is_aside`: not where an error came before it."""

    text: str
    is_aside: bool


def errors(log: str) -> list[str]:
    """The lines of the log's end, but for asides, those that tell of no error, and source code."""
    return [line.text for line in lines(log) if not line.is_aside]


def lines(log: str) -> tuple[Line, ...]:
    """The lines of the log's end that may tell a cause, in their order."""
    return tuple(
        Line(text, is_aside=part == "aside" or _SEQUEL.match(text) is not None)
        for text, part in _read(log)
        if part != "noise" and text and not _NOISE.match(text)
    )


def _read(log: str) -> Iterator[tuple[str, Part]]:
    """Processes that write at the same time are told apart by the names before their lines."""
    writers: defaultdict[str, _Writer] = defaultdict(_Writer)
    for raw in _COLOUR.sub("", log[-LOG_END:]).splitlines():
        name, is_record, text = _plain(raw)
        yield writers[name].take(text, is_record=is_record)


class _Writer:
    """Where a process is in what it writes: a traceback, what is told beside it, or neither."""

    def __init__(self) -> None:
        self.is_trace = False
        self.frame = ""
        self.part: Part = "error"  # of what is raised next
        self.last: Part = "error"  # of what was raised last
        self.has_raised = False  # in the line before: its message may go on

    def take(self, text: str, *, is_record: bool) -> tuple[str, Part]:
        """The next line, as it is told and what it is part of; source code and frames are noise."""
        if self._is_frame(text) or not text:
            return text, "noise"
        if _IGNORED.match(text) or _UNHEARD.match(text):
            self.is_trace = False
        if self.is_trace and is_record:  # another process writes into the middle
            return text, "error"
        if self.is_trace or (self.part != "error" and _RAISED.match(text)):
            return self._raised(text)
        if not text.startswith(" "):
            self._begin(text)
        return text, self.last if self.has_raised else self.part

    def _is_frame(self, text: str) -> bool:
        if text.endswith(_BEGIN):
            self.is_trace, self.frame, self.has_raised = True, "", False
            return True
        if _FRAME.match(text):
            self.is_trace, self.frame = True, text
        elif _GOES_ON.match(text):
            self.part, self.has_raised = self.last, False
            return True
        return self.is_trace and text.startswith("  ")

    def _raised(self, text: str) -> tuple[str, Part]:
        self.last = "noise" if _TRACKER in self.frame else self.part
        self.is_trace, self.part, self.has_raised = False, "error", True
        place = _PLACE.search(self.frame)
        told = f"{text} ({place[1]})" if place and _FULL.match(text) else text
        self.frame = ""
        return told, self.last

    def _begin(self, text: str) -> None:
        """A line of its own: it may say what the next traceback is of."""
        self.has_raised = False
        if _IGNORED.match(text):
            self.part = "noise"
        elif _UNHEARD.match(text):
            self.part = "aside"
        elif not _OF_UNHEARD.match(text):
            self.part = "error"


def _plain(line: str) -> tuple[str, bool, str]:
    """Who wrote it, whether it begins a record of SGLang's, and the line without prefixes."""
    name, is_record, text, before = "", False, line, ""
    while text != before:
        before = text
        if writer := _WRITER.match(text):
            name, text = name + writer[0].strip(), text[writer.end() :]
        if record := _RECORD.match(text):
            is_record, text = True, text[record.end() :]
        text = _PREFIX.sub("", text)
    return name, is_record, text.rstrip()
