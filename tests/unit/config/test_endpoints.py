"""What backend=endpoint may be set to: URLs by one spelling, no secrets in them, no knobs."""

import pytest
from hydra import initialize_config_dir

from pipeline.config import command_line, endpoints
from pipeline.config.command_line import composed
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema import Config

HERE = ["backend=endpoint", "backend.url=http://localhost:8000"]


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return command_line.to_config(composed(overrides))


def refusal(*overrides: str, is_sweep: bool = False) -> str:
    """What a whole command is refused with."""
    with pytest.raises(ConfigError) as caught:
        command_line.check(overrides, is_sweep=is_sweep)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        ("http://h:8000/v1/", "http://h:8000"),
        ("https://h/team/a", "https://h/team/a"),
        ("https://h/team/a/v1/chat/completions", "https://h/team/a"),
        ("https://h/v1/models", "https://h"),
        ("https://h/v1beta", "https://h/v1beta"),
    ],
)
def test_a_server_has_one_spelling(given: str, meant: str) -> None:
    assert config("backend=endpoint", f"backend.url={given}").backend.url == meant


@pytest.mark.parametrize(
    "given", ["localhost:8000", "ftp://h/v1", "http://", "http:///v1", "http://h:99999", "'http://a b/'", "''"]
)
def test_what_is_no_url_of_a_server_is_refused_with_an_example(given: str) -> None:
    told = refusal("backend=endpoint", f"backend.url={given}")
    assert "expected http:// or https://, a host" in told
    assert "e.g. backend.url=http://localhost:8000" in told


@pytest.mark.parametrize(
    "given", ["http://me:hunter2hunter2@h/", "http://h/v1?key=hunter2hunter2", "http://h/#hunter2"]
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(given: str) -> None:
    told = refusal("backend=endpoint", f"backend.url='{given}'")
    assert "leave user, password, ? and # out" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sk-hunter2-hunter2", "expected the name of an environment variable"),
        ("HUNTER2", "KEY, TOKEN, SECRET or PASSWORD in it"),
    ],
)
def test_a_key_in_place_of_its_variable_is_not_repeated(name: str, words: str) -> None:
    told = refusal(*HERE, f"backend.api_key_env={name}")
    assert words in told
    assert name not in told


def test_without_a_url_there_is_one_thing_to_do() -> None:
    assert refusal("backend=endpoint") == (
        "backend.url has no value: add backend.url=http://HOST:PORT, where a server runs already."
    )


def test_several_urls_are_a_sweep() -> None:
    assert "add -m and write backend.url=http://a,http://b" in refusal(
        "backend=endpoint", "backend.url=[http://a,http://b]"
    )
    assert "add -m" in refusal("backend=endpoint", "backend.url=http://a,http://b")
    found = command_line.check(["backend=endpoint", "backend.url=http://a,http://b:1/x"], is_sweep=True)
    assert (found.total, found.swept) == (2, ("backend.url",))


@pytest.mark.parametrize(
    ("given", "what", "total"),
    [
        (["backend=endpoint", "backend.url=http://a,http://b,http://a/v1/"], "backend.url=http://a", 2),
        (["n_threads=1,2,1"], "n_threads=1", 3),  # and the baseline
        (["runtime=llamacpp,llamacpp"], "runtime=llamacpp", 1),
        (["runtime=llamacpp,vllm,llamacpp"], "runtime=llamacpp", 2),
    ],
    ids=["url", "knob", "one engine", "engine"],
)
def test_what_is_there_twice_is_told_and_counts_once(given: list[str], what: str, total: int) -> None:
    found = command_line.check(["dry_run=true", *given], is_sweep=True)
    (told,) = found.warnings
    assert told.startswith(f"{what} is there twice, and is measured as one configuration")
    assert found.total == total


def test_a_grid_measures_twice_what_is_there_twice() -> None:
    found = command_line.check(["dry_run=true", "hydra/sweeper=basic", "n_threads=1,1"], is_sweep=True)
    assert (found.warnings, found.total) == ((), 2)


@pytest.mark.parametrize(
    "given",
    [["n_threads=1,2"], ["runtime=vllm", "max_num_seqs=null,8"], ["runtime=vllm", "max_num_seqs=8"]],
    ids=["unknown", "known", "one"],
)
def test_a_knob_is_refused_with_what_is_possible(given: list[str]) -> None:
    told = refusal(*HERE, *given, is_sweep=True)
    assert "knobs of its engine cannot be set" in told
    assert "What can be swept: backend.url=URL,URL, backend.served_name, traffic, slo" in told
    assert given[-1].split("=")[0] in told


def test_flags_of_an_engine_reach_none() -> None:
    assert "starts no engine that could take them" in refusal(*HERE, "runtime=vllm", "runtime.extra_args=[--x]")


def test_traffic_and_slo_can_be_swept() -> None:
    found = command_line.check(
        [*HERE, "traffic.seed=1,2", "+slo.limits.ttft_p95_s=1,2", "slo=interactive"], is_sweep=True
    )
    assert found.total == 4


@pytest.mark.parametrize(
    "given", ["backend.url=http://h", "backend.served_name=a", "backend.api_key_env=A_KEY", "backend.ca_file=/ca.pem"]
)
def test_its_settings_go_with_no_other_backend(given: str) -> None:
    assert "backend=endpoint" in refusal(given)


def test_nothing_starts_a_server_that_has_no_command() -> None:
    assert "runtime=openai has no command to start a server: set backend=endpoint" in refusal("runtime=openai")


def test_slurm_is_refused() -> None:
    slurm = [*HERE, "hydra/launcher=submitit_slurm", "hydra.sweeper.n_jobs=2", "traffic.seed=1,2"]
    assert "measures from this machine" in refusal(*slurm, is_sweep=True)


def test_its_engine_and_model_may_be_named() -> None:
    named = config(*HERE, "runtime=vllm", "model=qwen3_8b")
    assert (named.runtime.name, named.model.name) == ("vllm", "qwen3_8b")
    plain = config(*HERE)
    assert (plain.runtime.name, plain.model.name, plain.knobs) == ("openai", "served", {})


def test_its_gpus_are_those_that_are_named() -> None:
    assert config(*HERE).gpus == 0
    assert config(*HERE, "runtime=vllm", "hardware=h100", "hardware.gpu_count=4").gpus == 4


def test_the_name_of_the_backend_is_that_of_its_file() -> None:
    assert config(*HERE).backend.target == endpoints.TARGET
