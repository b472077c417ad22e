"""What the rules know of the traffic: what requests share, how long they are, whether answers end by themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from pipeline.config.command_line import composed, to_config
from pipeline.core.places import CONF
from pipeline.core.schema import Config
from pipeline.engines import verdict
from support.records import make_dataset

PREFIX = ("traffic=shared_prefix",)
KNOBS = {
    "vllm": ("enable_prefix_caching=false",),
    "sglang": ("disable_radix_cache=true",),
    "sglang queue": ("schedule_policy=lpm",),
}


def config(*words: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return to_config(composed(["model=llama31_8b", "hardware=h100", *words]))


def of_file(made: Config, *, shared: float, is_past_stop: bool = False) -> Config:
    found = make_dataset(shared_prefix=shared)
    own = replace(made.traffic, path=Path("p.jsonl"), scenarios=("dataset",), dataset=found, ignore_eos=is_past_stop)
    return replace(made, traffic=own)


def rules(made: Config) -> set[str]:
    return {finding.rule for finding in verdict.judge(made).findings}


UNREWARDED = {"no_prompt_has_anothers_prefix", "no_prefix_to_queue_by"}


@pytest.mark.parametrize("name", KNOBS)
def test_a_prefix_cache_is_worth_something_where_prompts_begin_alike(name: str) -> None:
    words = (f"runtime={name.partition(' ')[0]}", *KNOBS[name])
    plain = config(*words)
    assert rules(plain) & UNREWARDED
    assert not rules(config(*words, *PREFIX)) & UNREWARDED
    assert not rules(of_file(plain, shared=0.3)) & UNREWARDED
    assert rules(of_file(plain, shared=0.01)) & UNREWARDED


def test_answers_to_own_prompts_end_by_themselves() -> None:
    drafts = config("runtime=sglang", "speculative_algorithm=NGRAM")
    assert "drafts_of_text_past_its_end" in rules(drafts)
    assert "drafts_of_text_past_its_end" not in rules(of_file(drafts, shared=0.3))
    assert "drafts_of_text_past_its_end" in rules(of_file(drafts, shared=0.3, is_past_stop=True))


def test_a_prompt_of_a_file_that_no_slot_holds_is_told() -> None:
    small = config("model=gemma3_270m", "runtime=llamacpp", "n_ctx=256", "hardware=cpu")
    assert not {"no_request_fits_a_slot", "requests_exceed_a_slot"} & rules(of_file(small, shared=0.3))
    for longest, least, rule in ((300, 9, "requests_exceed_a_slot"), (300, 290, "no_request_fits_a_slot")):
        found = make_dataset(longest_tokens=longest, least_tokens=least)
        made = of_file(small, shared=0.3)
        assert rule in rules(replace(made, traffic=replace(made.traffic, dataset=found)))


def test_a_shared_prefix_counts_as_part_of_the_context() -> None:
    small = config("model=gemma3_270m", "runtime=llamacpp", "n_ctx=256", "hardware=cpu", *PREFIX)
    assert "no_request_fits_a_slot" in rules(small)
