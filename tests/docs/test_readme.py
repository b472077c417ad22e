"""What the README says can be typed, and the tables it keeps, against the code."""

import re
import shlex
import subprocess

import pytest

from pipeline.config import command_line
from pipeline.core import places
from pipeline.core.errors import FailureKind
from pipeline.core.metric_names import MAXIMISED

README = (places.CONF.parent / "README.md").read_text()
COMMANDS = re.findall(r"^    (python -m pipeline .*)$", README.replace("\\\n", ""), re.MULTILINE)
GROUPS = sorted(path.name for path in places.CONF.iterdir() if path.is_dir() and path.name != "hydra")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_accepted_as_it_stands(line: str) -> None:
    subprocess.run(["bash", "-n", "-c", line], check=True)
    words = shlex.split(line.partition(" | ")[0], comments=True)[3:]
    is_sweep = words[0] == "-m"
    assert command_line.check(words[is_sweep:], is_sweep=is_sweep).total


OPTIONS = sorted(path.stem for group in GROUPS for path in (places.CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", [*FailureKind, *MAXIMISED, *GROUPS, *OPTIONS])
def test_a_name_is_in_the_tables(name: str) -> None:
    assert re.search(rf"`(?:\S*[ .])?{re.escape(name)}[`_ .]", README), name
