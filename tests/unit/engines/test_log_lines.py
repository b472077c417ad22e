"""Which lines of a log may tell a cause: not what interpreters say of leaks when they end."""

import pytest

from pipeline.core.errors import FailureKind
from pipeline.engines.diagnose import server_death
from pipeline.engines.log_lines import errors

CAUSE = "KeyError: 'model.layers.0.mlp.gate'"
# CPython 3.11 at the end of a process; the last four as vLLM 0.32.0 and SGLang 0.5.23 left them
NOISE = {
    "leaked-semaphores": """\
/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1 \
leaked semaphore objects to clean up at shutdown
  warnings.warn('resource_tracker: There appear to be %d '""",
    "shared-memory-is-gone": """\
/usr/lib/python3.11/multiprocessing/resource_tracker.py:267: UserWarning: resource_tracker: '/psm_21467': [Errno 2] No \
such file or directory: '/psm_21467'
  warnings.warn('resource_tracker: %r: %s' % (name, e))""",
    "trackers-own-traceback": """\
Traceback (most recent call last):
  File "/usr/lib/python3.11/multiprocessing/resource_tracker.py", line 239, in main
    cache[rtype].remove(name)
KeyError: '/psm_21467'""",
    "destructor": """\
Exception ignored in: <function ResourceTracker.__del__ at 0x7f3b>
Traceback (most recent call last):
  File "/usr/lib/python3.12/multiprocessing/resource_tracker.py", line 77, in __del__
    self._stop(use_blocking_lock=False)
ChildProcessError: [Errno 10] No child processes""",
    "destructor-of-a-library": """\
Exception ignored in: <function ZmqSocket.__del__ at 0x7f3b>
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/zmq/sugar/socket.py", line 188, in __del__
    self.close()
RuntimeError: CUDA out of memory. It only looks like it.""",
    "destructor-of-3.14": """\
Exception ignored while calling deallocator <function Pool.__del__ at 0x7f36f9d333d0>:
Traceback (most recent call last):
  File "/usr/lib64/python3.14/multiprocessing/pool.py", line 271, in __del__
    self._change_notifier.put(None)
OSError: [Errno 9] Bad file descriptor""",
    "destructor-without-a-traceback": """\
Exception ignored in: <_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'>
ValueError: I/O operation on closed file.""",
    "at-exit": """\
Exception ignored in atexit callback: <function finalize at 0x7f40ed239bc0>
Traceback (most recent call last):
  File "/opt/venv/lib/python3.12/site-packages/x.py", line 4, in finalize
KeyError: 'handle'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/venv/lib/python3.12/site-packages/x.py", line 6, in finalize
OSError: socket gone""",
    "pending-task": """\
Task was destroyed but it is pending!
task: <Task pending name='Task-4' coro=<AsyncLLM.output_handler() done, defined at vllm/v1/engine/async_llm.py:602>>""",
    "resource-warning": "sys:1: ResourceWarning: unclosed <socket.socket fd=40>",
    "process-group": """\
[rank0]:[W1130 02:04:41.6 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called""",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_leak_noise_is_never_the_reason(noise: str) -> None:
    found = server_death("exit code 1", f"{noise}\n")
    assert (found.kind, found.reason) == (FailureKind.SERVER_DIED, "")


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_a_cause_beside_leak_noise_is_found(noise: str, is_before: bool) -> None:
    trace = f'Traceback (most recent call last):\n  File "vllm/v1/engine/core.py", line 1, in x\n    x()\n{CAUSE}'
    text = "\n".join([noise, trace] if is_before else [trace, noise])
    assert server_death("exit code 1", text).reason == CAUSE


def test_the_source_code_of_a_traceback_is_no_reason() -> None:
    log = """\
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "huggingface_hub/utils/_validators.py", line 160, in validate_repo_id
(APIServer pid=1)     raise HFValidationError(
(APIServer pid=1)     ^^^^^^^^^^^^^^^^^^^^^^^^
(APIServer pid=1) huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name'
"""
    assert errors(log) == ["huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name'"]


def test_sglang_begins_a_traceback_behind_words_of_its_own() -> None:
    log = """\
[2026-11-02 08:26:20 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "sglang/srt/managers/scheduler.py", line 6340, in run_scheduler_process
    raise ValueError("CUDA out of memory")
KeyError: 'x'
"""
    assert errors(log) == ["KeyError: 'x'"]


def test_the_lines_of_an_exception_that_has_several_are_kept() -> None:
    log = 'Traceback (most recent call last):\n  File "x.py", line 1\nValidationError: 1 error\n  Value error, bad\n'
    assert errors(log) == ["ValidationError: 1 error", "  Value error, bad"]


# CPython 3.11.7, provoked, and torch 2.13's ProcessGroupNCCL.cpp; what follows from an error
ASIDES = {
    "thread": """\
Exception in thread Thread-3 (monitor):
Traceback (most recent call last):
  File "/usr/lib/python3.11/threading.py", line 1045, in _bootstrap_inner
    self.run()
  File "vllm/v1/utils.py", line 4, in monitor
OSError: socket gone""",
    "task": """\
Task exception was never retrieved
future: <Task finished name='Task-2' coro=<g() done, defined at t.py:6> exception=ValueError('in task')>
Traceback (most recent call last):
  File "t.py", line 6, in g
    async def g(): raise ValueError("in task")
ValueError: in task""",
    "task-in-a-log-of-asyncio": """\
ERROR:asyncio:Task exception was never retrieved
future: <Task finished name='Task-2' coro=<g() done, defined at t.py:6> exception=ValueError('in task')>
Traceback (most recent call last):
  File "t.py", line 6, in g
RuntimeError: CUDA out of memory. It only looks like it.""",
    "callback": """\
Exception in callback _run.<locals>.<lambda>() at t.py:10
handle: <Handle _run.<locals>.<lambda>() at t.py:10>
Traceback (most recent call last):
  File "t.py", line 10, in <lambda>
ZeroDivisionError: division by zero""",
    "chain-in-a-thread": """\
Exception in thread Thread-1 (poll):
Traceback (most recent call last):
  File "t.py", line 1, in poll
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "t.py", line 3, in poll
ValidationError: 1 error
  Value error, bad""",
    "watchdog": """\
[rank1]:[E1130 02:14:41.600 ProcessGroupNCCL.cpp:683] [Rank 1] Watchdog caught collective operation timeout: \
WorkNCCL(SeqNum=1210, OpType=ALLREDUCE, NumelIn=4096, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.
[rank1]:[E1130 02:14:41.601 ProcessGroupNCCL.cpp:2074] [PG ID 2 PG GUID 3 Rank 1] Process group watchdog thread \
terminated with exception: NCCL error: remote process exited or there was a network error
terminate called after throwing an instance of 'c10::DistBackendError'
  what():  [PG ID 2 PG GUID 3 Rank 1] Process group watchdog thread terminated with exception: NCCL error: remote \
process exited or there was a network error""",
    "neighbour-is-gone": """\
(Worker_TP1 pid=2) Traceback (most recent call last):
(Worker_TP1 pid=2)   File "vllm/v1/worker/gpu_worker.py", line 1, in x
(Worker_TP1 pid=2) RuntimeError: [/pytorch/third_party/gloo/transport/tcp/pair.cc:534] Connection closed by peer""",
}


@pytest.mark.parametrize("aside", ASIDES.values(), ids=ASIDES)
def test_what_follows_from_an_error_is_not_the_reason(aside: str) -> None:
    trace = f'Traceback (most recent call last):\n  File "vllm/v1/engine/core.py", line 1, in x\n    x()\n{CAUSE}'
    found = server_death("exit code 1", f"{trace}\n{aside}\n")
    assert (found.kind, found.reason) == (FailureKind.SERVER_DIED, CAUSE)
    lost = "terminate called after throwing an instance of 'std::runtime_error'\n  what():  CUDA error: stuck"
    assert server_death("exit code 1", f"{trace}\n{aside}\n{lost}").reason == CAUSE


@pytest.mark.parametrize("aside", ASIDES.values(), ids=ASIDES)
def test_it_is_the_reason_where_there_is_no_other(aside: str) -> None:
    assert server_death("exit code 1", f"INFO 11-02 08:26:01 [x.py:1] begins\n{aside}\n").reason


@pytest.mark.parametrize("aside", ASIDES.values(), ids=ASIDES)
def test_an_error_behind_it_stays_an_error(aside: str) -> None:
    trace = f'Traceback (most recent call last):\n  File "vllm/v1/engine/core.py", line 1, in x\n    x()\n{CAUSE}'
    assert CAUSE in errors(f"{aside}\n{trace}")


def test_processes_that_write_at_the_same_time_are_told_apart() -> None:
    """Two workers' tracebacks, line by line, and a third process that ends with an exception in a thread."""
    log = """\
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [core.py:1] Traceback (most recent call last):
(Worker_TP1 pid=2) Exception in thread Thread-1 (poll):
(Worker_TP1 pid=2) Traceback (most recent call last):
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [core.py:1]   File "vllm/a.py", line 1, in x
(APIServer pid=3) Exception ignored in: <function Socket.__del__ at 0x7f3b>
(Worker_TP1 pid=2)   File "vllm/b.py", line 1, in poll
(Worker_TP1 pid=2) OSError: socket gone
(APIServer pid=3) Traceback (most recent call last):
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [core.py:1]     raise ValueError("CUDA out of memory")
(APIServer pid=3)   File "zmq/sugar/socket.py", line 188, in __del__
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [core.py:1] KeyError: 'x'
(APIServer pid=3) RuntimeError: CUDA out of memory. It only looks like it.
"""
    assert errors(log) == ["KeyError: 'x'"]
    assert server_death("exit code 1", log).reason == "KeyError: 'x'"


def test_a_record_in_the_middle_of_sglangs_traceback_does_not_end_it() -> None:
    log = """\
[2026-11-02 08:26:20 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "sglang/srt/managers/scheduler.py", line 6340, in run_scheduler_process
[2026-11-02 08:26:20 TP1] Load weight end.
    raise ValueError("CUDA out of memory")
  File "sglang/x.py", line 1, in y
KeyError: 'x'
"""
    assert errors(log) == ["Load weight end.", "KeyError: 'x'"]


def test_an_error_of_nccls_own_is_the_reason_behind_one_that_did_no_harm() -> None:
    log = """\
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [plugins.py:1] Traceback (most recent call last):
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [plugins.py:1]   File "vllm/plugins/__init__.py", line 1, in load
(Worker_TP0 pid=1) ERROR 11-02 08:26:59 [plugins.py:1] ImportError: no plugin
(Worker_TP0 pid=1) RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)
"""
    assert server_death("exit code 1", log).kind == FailureKind.GPU_COMMUNICATION
