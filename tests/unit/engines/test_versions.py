"""Versions of an engine: each knob as that version spells it, or refused with what there is."""

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import check, composed, to_config
from pipeline.core.errors import ConfigError
from pipeline.core.findings import Verdict
from pipeline.core.places import CONF
from pipeline.engines import catalogue, versions
from pipeline.engines.server_command import flags
from pipeline.engines.verdict import judge

OLD, NEW = "0.5.10.post1", catalogue.versions("sglang")[-1]


def made(*overrides: str) -> tuple[str, ...]:
    """The flags of a trial of SGLang."""
    with initialize_config_dir(str(CONF)):
        return flags(to_config(composed(["runtime=sglang", *overrides])))


@pytest.mark.parametrize(
    ("version", "flag"), [(OLD, "--cuda-graph-max-bs"), (NEW, "--cuda-graph-max-bs-decode")], ids=["old", "new"]
)
def test_a_renamed_flag_is_spelled_as_the_version_wants_it(version: str, flag: str) -> None:
    assert made(f"runtime.version={version}", "cuda_graph_max_bs_decode=64") == (flag, "64")


def test_a_choice_that_a_version_has_lost_is_refused_there_alone() -> None:
    assert made(f"runtime.version={OLD}", "attention_backend=cutlass_mla") == ("--attention-backend", "cutlass_mla")
    with pytest.raises(
        ConfigError, match=f"attention_backend=cutlass_mla: sglang {NEW} does not accept this; expected"
    ):
        made("attention_backend=cutlass_mla")


def test_a_knob_that_a_version_has_not_is_refused_with_the_one_that_has() -> None:
    those = r"\(versions that have it: 0.5.1 ... 0.5.21, 40 of those known\)"
    told = f"enable_dp_attention=True: sglang {NEW} does not have this flag {those}"
    with pytest.raises(ConfigError, match=told):
        made("enable_dp_attention=true")


def test_a_version_without_a_catalogue_is_told_how_to_get_one() -> None:
    told = (
        rf"version=0\.5\.99: there is no flag catalogue for sglang 0\.5\.99; the nearest known version: {NEW}\. "
        r"Set the version that you run, or create one: python -m pipeline\.catalogues sglang==0\.5\.99"
    )
    with pytest.raises(ConfigError, match=told):
        made("runtime.version=0.5.99", "page_size=32")


@pytest.mark.parametrize(
    ("version", "near"),
    [
        ("0.5.99", [NEW]),
        ("0.1.0", [catalogue.versions("sglang")[0]]),
        ("0.5.10.post9", ["0.5.10.post1", "0.5.11"]),
        ("banana", [NEW]),
        ("0.5.10.post1x", ["0.5.10.post1"]),
    ],
    ids=["newer", "older", "between", "none", "misspelled"],
)
def test_an_unknown_version_is_told_with_the_nearest(version: str, near: list[str]) -> None:
    (finding,) = (one for one in judged(f"runtime.version={version}").findings if one.rule == "version_unknown")
    assert finding.verdict == "warned"
    assert (
        f"nearest known version{'s' * (len(near) > 1)}: {', '.join(near)}. So flags are not checked" in finding.reason
    )


def test_a_known_version_is_not_told() -> None:
    assert not [one for one in judged(f"runtime.version={OLD}").findings if one.rule == "version_unknown"]
    assert versions.unknown("llamacpp", None) is None
    assert versions.unknown("mine", "1.0") is None


def test_every_value_of_a_sweep_is_checked_against_the_version() -> None:
    with pytest.raises(ConfigError, match="cutlass_mla"):
        check(["runtime=sglang", "attention_backend=fa3,cutlass_mla"], is_sweep=True)


def judged(*overrides: str) -> Verdict:
    with initialize_config_dir(str(CONF)):
        return judge(to_config(composed(["runtime=sglang", "hardware=h100", *overrides])))


def findings(verdict: Verdict) -> dict[str, str]:
    return {finding.rule: finding.reason for finding in verdict.findings}


def test_extra_arguments_count_as_the_knobs_of_their_flags() -> None:
    assert "chunk_by_page" not in findings(judged("chunked_prefill_size=2048"))
    seen = findings(judged("chunked_prefill_size=2048", "runtime.extra_args=[--page-size,48]"))
    assert judged("chunked_prefill_size=2048", "page_size=48").word == "refused"
    assert seen == findings(judged("chunked_prefill_size=2048", "page_size=48"))


@pytest.mark.parametrize(
    ("words", "dest", "setting"),
    [
        (["--max-model-len", "4096"], "max_model_len", 4096),
        (["--max_model_len=4096"], "max_model_len", 4096),
        (["--max-model-len", "32k"], "max_model_len", None),
        (["--no_enable_chunked_prefill"], "enable_chunked_prefill", False),
        (["--enable-chunked-prefill"], "enable_chunked_prefill", True),
        (["-O0"], "optimization_level", 0),
        (["-tp", "8"], "tensor_parallel_size", 8),
    ],
)
def test_vllms_own_spellings_are_read(words: list[str], dest: str, setting: object) -> None:
    found = catalogue.load("vllm", catalogue.versions("vllm")[-1]).read(words)
    assert (found.unknown, found.ambiguous) == ((), ())
    assert found.settings[dest] == setting


def test_a_runtime_with_catalogues_needs_a_version() -> None:
    with pytest.raises(ConfigError, match=rf"Set runtime\.version, e\.g\. {NEW}: it is missing"):
        made("runtime.version=null")


def test_a_knob_that_is_set_twice_is_warned_about() -> None:
    seen = findings(judged("page_size=32", 'runtime.extra_args=["--page-size=64"]'))
    assert seen["set_twice"].startswith("page_size is set both as a knob and in runtime.extra_args")


def test_an_unknown_flag_is_passed_on_with_a_warning() -> None:
    seen = judged("runtime.extra_args=[--no-such-flag,--enable-metrics]")
    assert seen.word == "warned"
    assert "has no --no-such-flag;" in findings(seen)["unknown_flag"]


def test_an_ambiguous_abbreviation_is_refused_with_what_it_may_mean() -> None:
    seen = judged("runtime.extra_args=[--cuda-graph-max-bs,16]")
    assert seen.word == "refused"
    assert "--cuda-graph-max-bs-decode or --cuda-graph-max-bs-prefill" in findings(seen)["ambiguous_flag"]
    old = judged("runtime.extra_args=[--cuda-graph-max-bs,16]", f"runtime.version={OLD}")
    assert "ambiguous_flag" not in findings(old)


def test_more_gpus_than_there_are_is_refused() -> None:
    assert (
        "the trial needs 16 GPUs, hardware=h100 has 8"
        in findings(judged("tp_size=8", "pp_size=2"))["more_gpus_than_there_are"]
    )
    shared = ("tp_size=8", "dp_size=8", f"runtime.version={OLD}")
    assert "more_gpus_than_there_are" in findings(judged(*shared))
    assert "more_gpus_than_there_are" not in findings(judged(*shared, "enable_dp_attention=true"))
