"""Faults of the engine's installation: what is one, what is not, and what a search may learn of it."""

import pytest

from pipeline.core.errors import BY_SURROUNDINGS
from pipeline.core.errors import FailureKind as Kind
from pipeline.engines.death_patterns_environment import ENVIRONMENT
from pipeline.engines.diagnose import server_death

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


@pytest.mark.parametrize(
    "text",
    [
        '/src/a.cu(12): error: argument of type "const float *" is incompatible with parameter of type "float"\n',
        "main.c:3:5: error: argument 2: too few\n",
        "TypeError: argument of type 'NoneType' is not iterable\n",
        'x.py: error: argument of type "int" is: odd\n',
    ],
    ids=["nvcc", "gcc", "python", "quoted"],
)
def test_a_compilers_or_pythons_argument_is_no_flag(text: str) -> None:
    assert server_death("exit code 1", text).kind == Kind.SERVER_DIED


def test_a_compilers_error_is_no_flag_where_the_engine_ends_as_a_parser_does() -> None:
    assert server_death("exit code 2", "main.c:3:5: error: expected expression\n").kind == Kind.SERVER_DIED
    assert server_death("exit code 2", "launch_server.py: error: pick one\n").kind == Kind.BAD_FLAG


@pytest.mark.parametrize(
    "text",
    [
        "launch_server.py: error: argument --tp-size: invalid int value: 'x'\n",
        "vllm serve: error: argument --kv-cache-dtype/-k: expected one argument\n",
        "/opt/venv/bin/sglang: error: unrecognized arguments: --page-sice 3\n",
        "api_server.py: error: ambiguous option: --max could match --max-num-seqs, --max-model-len\n",
        "vllm serve: error: the following arguments are required: model_tag\n",
    ],
)
def test_a_parsers_words_are_a_flags_fault(text: str) -> None:
    assert server_death("exit code 2", text).kind == Kind.BAD_FLAG
    assert server_death("exit code 1", text).kind == Kind.BAD_FLAG


@pytest.mark.parametrize("code", [126, 127])
def test_a_command_that_cannot_be_started_is_told_by_its_exit_code(code: int) -> None:
    found = server_death(f"exit code {code}", "sh: 1: /opt/sglang/bin/python: Permission denied\n")
    assert found.kind == Kind.ENGINE_BROKEN
    assert "runtime.python" in found.hint
    assert found.reason == "sh: 1: /opt/sglang/bin/python: Permission denied"
    assert server_death(f"exit code {code}", OOM).kind == Kind.OOM_GPU


def test_who_goes_on_past_an_import_has_another_cause() -> None:
    missing = "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory\n"
    assert server_death("exit code 1", missing).kind == Kind.ENGINE_BROKEN
    assert server_death("exit code 1", missing + OOM).kind == Kind.OOM_GPU


def test_a_weights_file_that_may_not_be_read_is_no_damaged_one() -> None:
    raised = "SafetensorError: Error while opening: Permission denied (os error 13)\n"
    assert server_death("exit code 1", raised).kind == Kind.ENGINE_BROKEN
    assert server_death("exit code 1", raised.replace("(os", "/m/a.safetensors (os")).kind == Kind.MODEL_MISSING


def test_only_what_a_knob_leads_to_is_held_against_a_configuration() -> None:
    learned = [one for one in ENVIRONMENT if one.kind not in BY_SURROUNDINGS]
    assert {one.kind for one in learned} == {Kind.LOAD_FAILED}
    assert all("knob" in one.hint or "{backend}" in one.hint for one in learned)
