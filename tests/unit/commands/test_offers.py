"""`servetune doctor --hardware` and `--models`."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import doctor, offers
from pipeline.core.errors import ConfigError
from pipeline.core.places import CONF
from pipeline.core.schema_hardware import Seen
from pipeline.machine import detected

H100 = Seen(vendor="nvidia", name="NVIDIA H100 80GB HBM3", count=4, memory_gib=79.65, compute_capability=9.0)


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert doctor.main(argv) == 0
    return capsys.readouterr().out


def row(out: str, name: str) -> list[str]:
    return next(line for line in out.splitlines() if line.startswith(f"{name} ")).split()


@pytest.mark.parametrize(("option", "group"), [("--hardware", "hardware"), ("--models", "model")])
def test_every_option_has_its_line(option: str, group: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = listed(capsys, option)
    names = {path.stem for path in (CONF / group).glob("*.yaml")} - {"auto"}
    assert names <= {line.split()[0] for line in out.splitlines() if line}
    assert all(len(line) <= offers.PIPE_WIDTH for line in out.splitlines())


def test_hardware_is_told_with_its_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detected, "here", lambda: ())
    out = listed(capsys, "--hardware")
    assert row(out, "b300") == ["b300", "8", "268.6", "8,000", "2,250", "10.3", "yes"]
    assert row(out, "mi355x") == ["mi355x", "8", "288", "8,000", "2,517", "cdna4", "-"]
    assert out.endswith("hardware=auto, the default: cpu here, as no GPU was found\n")


@pytest.mark.parametrize(
    ("kinds", "here", "said"),
    [
        ([H100], ["4"], "4 x NVIDIA H100 80GB HBM3 (79.7 GiB): h100\n"),
        ([Seen(vendor="nvidia", name="NVIDIA X1", count=2)], [], "2 x NVIDIA X1: nvidia-x1\n"),
    ],
    ids=["known", "unknown"],
)
def test_the_gpus_of_this_machine_are_pointed_out(
    kinds: Sequence[Seen],
    here: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detected, "here", lambda: kinds)
    out = listed(capsys, "--hardware")
    assert row(out, "h100")[7:] == here
    assert out.endswith(said)


def test_gpus_of_which_nothing_can_be_said_do_not_hide_the_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    out = listed(capsys, "--hardware")
    assert row(out, "t4")[:2] == ["t4", "1"]
    assert "names slices of a GPU (MIG)" in out


def test_models_are_told_with_what_their_layers_keep(capsys: pytest.CaptureFixture[str]) -> None:
    out = listed(capsys, "--models")
    assert row(out, "gpt_oss_120b")[:7] == ["gpt_oss_120b", "116.8", "5.71", "60.8", "mxfp4", "1.13", "131,072"]
    assert "12 attention, 36 state; 10 of 512 experts" in out
    assert "61 MLA sparse; 8 of 256 experts" in out


def test_options_of_ones_own_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\nrepo: me/mine\nserved_name: mine\n")
    out = listed(capsys, "--models", "--config-dir", str(tmp_path))
    assert row(out, "mine")[-1] == "me/mine"


def test_a_file_that_is_no_option_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text("name: mine\n")
    assert doctor.main(["--hardware", "--config-dir", str(tmp_path)]) == 2
    assert f"error: {tmp_path}/hardware/mine.yaml does not describe a hardware" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        offers.hardware(tmp_path)
