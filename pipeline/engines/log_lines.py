"""Picks the lines of an engine's log that may tell why it ended: the errors, without prefixes and interpreters' noise.

Interpreters tell at their end what they could not tidy: leaked semaphores and shared memory, tasks that were still
pending, exceptions in destructors. That follows from a death, and is never the reason for it. What a thread or a task
says that nobody waited for (`Exception in thread`), and what a rank says whose neighbour is gone (NCCL's watchdog), is
an aside: it may be the reason, but not where an error came before it.

What an engine says to go on without (`Failed to import ..., falling back to ...`) is no reason either, nor is the
traceback that it logs with it. SGLang names no levels, and vLLM logs some of it as errors: it is known by its words.
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
    r"|[Ww]arning: |.*resource_tracker: |Task was destroyed but it is pending|task: <Task pending"
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
_WITHOUT = re.compile(
    r"\bf(all|alls|alling|ell)[ -]?back\b|\bignor(e|ing|ed)\b|\bskipp(ing|ed)\b|\bdisabl(ing|ed)\b|\bunavailable\b"
    r"|\bretrying\b|\brebuilding\b|\bcontinu(e|ing)\b|\bdefaulting\b|\binstead\b|\bfrom now on\b|\bkeep(s|ing)\b"
    r"|this is normal|assuming no |rollback to|failed to load (.* kernel|the JIT |plugin )"
    r"|using the (local|default) |\bnot found[,;] |for auto-detection: ",
    re.IGNORECASE,
)  # of the warnings and errors that sglang 0.5.23 and vllm 0.33.0 log and survive
_ALIVE = re.compile(r"(INFO|WARNING) \d\d-\d\d ")  # vLLM logs: who does so lives
_DYING = re.compile(r"[Rr]eceived sigquit|SIGQUIT received|crashed with exit code")  # SGLang of its children
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
    seen = [_plain(raw) for raw in _COLOUR.sub("", log[-LOG_END:]).splitlines()]
    last = max((i for i, line in enumerate(seen) if line.is_alive), default=-1)
    for i, line in enumerate(seen):
        yield writers[line.writer].take(line, goes_on=i < last)


class _Plain(NamedTuple):
    """A line without prefixes. `is_record`: it begins one of SGLang's; `is_logged`: by any engine's logger."""

    writer: str
    text: str
    is_record: bool
    is_logged: bool

    @property
    def is_alive(self) -> bool:
        """Whether its writer tells something else than an end."""
        return bool(_ALIVE.match(self.text)) or (self.is_record and not _DYING.search(self.text))


class _Writer:
    """Where a process is in what it writes: a traceback, what is told beside it, or neither."""

    def __init__(self) -> None:
        self.is_trace = False
        self.frame = ""
        self.part: Part = "error"  # of what is raised next
        self.last: Part = "error"  # of what was raised last
        self.has_raised = False  # in the line before: its message may go on

    def take(self, line: _Plain, *, goes_on: bool) -> tuple[str, Part]:
        """The next line, as it is told and what it is part of; source code and frames are noise.

        `goes_on`: an engine's logger told something later: whatever is logged here as survived, was survived.
        """
        text = line.text
        is_survived = line.is_logged and _WITHOUT.search(text) is not None and not _RAISED.match(text)
        if is_survived or (line.is_logged and text.endswith(_BEGIN) and text != _BEGIN):
            self.part = "noise" if is_survived and goes_on else "error"  # of the traceback that comes with it
        if self._is_frame(text) or not text:
            return text, "noise"
        if _IGNORED.match(text) or _UNHEARD.match(text):
            self.is_trace = False
        if self.is_trace and line.is_record:  # another process writes into the middle
            return text, "error"
        if self.is_trace or (self.part != "error" and _RAISED.match(text)):
            return self._raised(text)
        if is_survived:
            self.has_raised = False
            return text, "noise"
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


def _plain(line: str) -> _Plain:
    name, is_record, is_logged, text, before = "", False, False, line, ""
    while text != before:
        before = text
        if writer := _WRITER.match(text):
            name, text = name + writer[0].strip(), text[writer.end() :]
        if record := _RECORD.match(text):
            is_record, text = True, text[record.end() :]
        if prefix := _PREFIX.match(text):
            is_logged, text = True, text[prefix.end() :]
    return _Plain(name, text.rstrip(), is_record, is_logged or is_record)
