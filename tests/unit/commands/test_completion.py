"""What a shell offers for a word of `servetune`; that it is what the configuration really has."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from pipeline.cli import completion, conf_files, line
from pipeline.cli.commands import COMMANDS
from pipeline.cli.conf_files import ConfFiles
from pipeline.core.metric_names import known_metrics
from pipeline.core.places import CONF
from pipeline.engines.versions import versions

RUNTIMES = ["llamacpp", "openai", "sglang", "transformers", "vllm"]


def offered(text: str) -> list[str]:
    found = completion.offers(f"servetune {text}")
    assert found is not None, "names of files"
    return [*found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("do", ["doctor"]),
        ("dr", ["dry-run", "dry_run="]),
        ("--ver", ["--version"]),
        ("--completion ", ["bash", "zsh", "fish"]),
        ("--cfg ", ["job", "hydra", "all"]),
        ("runti", ["runtime=", "runtime."]),
        ("runtime=", [f"runtime={name}" for name in RUNTIMES]),
        ("runtime=s", ["runtime=sglang"]),
        ("-m runtime=sglang,", [f"runtime=sglang,{other}" for other in RUNTIMES if other != "sglang"]),
        ("+experiment=sm", ["+experiment=smoke"]),
        ("n_para", ["n_parallel="]),
        ("runtime=sglang n_para", []),
        ("runtime=sglang page", ["page_size="]),
        ("page", []),
        ("experiment=glm46_h20 page", ["page_size="]),
        ("experiment=glm46_h20 runtime=llamacpp page", []),
        ("doctor runtime=sglang page", ["page_size="]),
        ("dry-run -m runtime=sglang,vllm page", ["page_size="]),
        ("runtime=sglang enable_dp_a", []),
        ("runtime=sglang runtime.version=0.5.10.post1 enable_dp_a", ["enable_dp_attention="]),
        ("n_threads=", []),
        ("flash_attn=", ["flash_attn=on", "flash_attn=off", "flash_attn=auto", "flash_attn=null"]),
        ("-m flash_attn=null,o", ["flash_attn=null,on", "flash_attn=null,off"]),
        ("cont_batching=", ["cont_batching=true", "cont_batching=false", "cont_batching=null"]),
        ("traffic.min", ["traffic.min_requests="]),
        ("'traffic.min", ["traffic.min_requests="]),
        ("traffic.all_levels=", ["traffic.all_levels=true", "traffic.all_levels=false"]),
        ("traffic.order=", ["traffic.order=rising", "traffic.order=busiest_first"]),
        ("dry_run=t", ["dry_run=true"]),
        ("objective=", [f"objective={name}" for name in known_metrics()]),
        ("'objective=[ttft_p95_s,slo", ["objective=[ttft_p95_s,slo_attainment"]),
        ("runtime=vllm runtime.version=", [f"runtime.version={one}" for one in versions("vllm")]),
        ("hydra/la", ["hydra/launcher="]),
        ("hydra/launcher=p", ["hydra/launcher=parallel"]),
        ("hydra/launcher=parallel hydra.launcher.", ["hydra.launcher.n_jobs="]),
        ("hydra/launcher=example_site hydra.launcher.pend", ["hydra.launcher.pending_timeout_min="]),
        ("hydra.sweeper.rep", ["hydra.sweeper.repeats="]),
        ("hydra.sweeper.held_out=ch", ["hydra.sweeper.held_out=chat"]),
        ("backend=docker backend.container.pu", ["backend.container.pull="]),
        ("backend=docker backend.container.pull=a", ["backend.container.pull=always"]),
        ("knobs ", RUNTIMES),
        ("knobs vllm runtime.ver", ["runtime.version="]),
        ("knobs vllm runtime.version=", [f"runtime.version={one}" for one in versions("vllm")]),
        ("catalogues ", ["sglang==", "transformers==", "vllm=="]),
        ("reap --", ["--help", "--list", "--all-hosts"]),
        ("report --no", ["--no-html"]),
    ],
)  # fmt: skip
def test_a_word_is_completed(text: str, expected: list[str]) -> None:
    assert sorted(offered(text)) == sorted(expected)


def test_at_the_beginning_commands_come_first() -> None:
    assert offered("")[: len(COMMANDS)] == [*COMMANDS]
    assert not {*COMMANDS} & {*offered("n_threads=2 ")}


@pytest.mark.parametrize(
    "text", ["report ", "report out", "compare a ", "sync ", "recheck x/", "--config-dir ", "model.path=/x"]
)
def test_a_file_is_left_to_the_shell(text: str) -> None:
    assert completion.offers(f"servetune {text}") is None


def test_the_meaning_comes_with_the_word() -> None:
    found = completion.offers("servetune runtime=sglang page_s")
    assert found == {"page_size=": "tokens per KV cache page; some attention kernels fix it"}
    assert completion.offers("servetune traffic.min_r") == {"traffic.min_requests=": "default: 8"}


@pytest.mark.parametrize("how", ["--config-dir {}", "'hydra.searchpath=[file://{}]'"])
def test_options_of_ones_own_are_completed(tmp_path: Path, how: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mixed.yaml").write_text("# Our own.\nname: mixed\nfavourite: true\n")
    text = f"servetune {how.format(tmp_path)} "
    assert completion.offers(f"{text}model=mix") == {"model=mixtral_8x7b": ANY_MEANING, "model=mixed": "Our own"}
    assert completion.offers(f"{text}model=mixed model.fav") == {"model.favourite=": "default: true"}


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


ANY_MEANING = _Anything()


@pytest.mark.parametrize("group", conf_files.HYDRA_GROUPS)
def test_hydras_options_are_those_that_hydra_has(group: str) -> None:
    Plugins.instance()  # plugins put their options into the store
    names = {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group) if name.endswith(".yaml")}
    assert names | {path.stem for path in (CONF / group).glob("*.yaml")} == {*ConfFiles().options(group)}


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"runtime": "sglang", "backend": "ome"},
        {"experiment": "llama8b_h100", "hydra/launcher": "example_site"},
        {"hydra/sweeper": "tpe", "tracker": "none", "slo": "interactive"},
    ],
    ids=lambda chosen: " ".join(chosen.values()) or "defaults",
)
def test_the_names_are_those_that_hydra_composes(chosen: dict[str, str]) -> None:
    with initialize_config_dir(str(CONF)):
        overrides = [f"{group}={option}" for group, option in chosen.items()]
        tree = compose("config", overrides=overrides, return_hydra_config=True)
    real = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(real, dict)
    real_hydra = real.pop("hydra")
    made = ConfFiles().tree(chosen)
    made_hydra = made.pop("hydra")
    assert made == real
    assert {*made_hydra["launcher"]} <= {*real_hydra["launcher"]} if "launcher" in made_hydra else True
    assert {*made_hydra["sweeper"]} <= {*real_hydra["sweeper"]}


@pytest.mark.parametrize(
    ("text", "before", "word"),
    [
        ("servetune", (), ""),
        ("servetune ", (), ""),
        ("servetune a", (), "a"),
        ("servetune a ", ("a",), ""),
        ("servetune 'a b' c", ("a b",), "c"),
        ("servetune 'a b", (), "a b"),
        ('servetune "a \\" b" c', ('a \\" b',), "c"),
        ("servetune a\\ b c", ("a b",), "c"),
        ("/some/where/servetune -m x=1,2 y=", ("-m", "x=1,2"), "y="),
    ],
)
def test_a_line_is_read_as_the_shell_reads_it(text: str, before: tuple[str, ...], word: str) -> None:
    assert line.read(text) == (before, word)
