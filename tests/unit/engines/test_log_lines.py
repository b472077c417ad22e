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
