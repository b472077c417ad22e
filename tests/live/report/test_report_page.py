"""The report in a real browser: every plot is drawn, in light and dark, and nothing is complained about."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from parts import lacking
from pipeline.core.files import SweepDir
from pipeline.report import page, verdict
from support import many_records

pytestmark = pytest.mark.live
LIGHT, DARK = 1, 0


@pytest.fixture(scope="session")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        lacking("there is no chromium")
    return found


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_plot_is_drawn(browser: str, tmp_path: Path, scheme: int) -> None:
    records = many_records.write(tmp_path, 20)
    page.write(SweepDir(tmp_path), records, verdict.of(records), None)
    wanted = SweepDir(tmp_path).report.read_text().count(" data-figure=")
    seen = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
            f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1280,3000", "--enable-logging=stderr",
            "--virtual-time-budget=20000", "--dump-dom", SweepDir(tmp_path).report.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    drawn = re.findall(r'<svg class="main-svg"[^>]*style="background: ([^;"]*)', seen.stdout)
    assert seen.stdout.count('class="plot-container plotly"') == wanted > 8
    assert len(drawn) >= wanted
    text = "#e6e9ef" if scheme == DARK else "#1c2330"
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    assert f"fill: rgb({red}, {green}, {blue})" in seen.stdout  # the words of the axes
    assert not re.findall(r"CONSOLE.*(?:Error|rejected).*", seen.stderr)
