"""The energy that the CPU packages of this machine have used, as the kernel counts it (RAPL: Intel, and AMD since Zen).

Source: Linux, Documentation/power/powercap/powercap.rst. Since 2020 only root may read it unless somebody allows more.
"""

from pathlib import Path

ROOT = Path("/sys/class/powercap")
PACKAGE = "intel-rapl:[0-9]*"
MICRO = 1e-6


class Packages:
    """The counters of all packages. They start anew at a limit of their own, so they must be read now and then."""

    def __init__(self, root: Path | None = None) -> None:
        self.folders = [
            path for path in sorted((root or ROOT).glob(PACKAGE)) if path.name.count(":") == 1 and _is_package(path)
        ]
        self.before: dict[Path, int] = {}
        self.used_uj = 0

    def read_j(self) -> float | None:
        """Joules since the first reading; None where the kernel does not tell, or only root may ask."""
        try:
            now = {folder: int((folder / "energy_uj").read_text("ascii")) for folder in self.folders}
            limits = {folder: int((folder / "max_energy_range_uj").read_text("ascii")) for folder in self.folders}
        except (OSError, ValueError):
            return None
        if not now:
            return None
        for folder, count in now.items():
            grown = count - self.before.get(folder, count)
            self.used_uj += grown if grown >= 0 else grown + limits[folder]
        self.before = now
        return self.used_uj * MICRO

    @property
    def why_not(self) -> str | None:
        """Why it cannot be read, in words; None: it can."""
        if not self.folders:
            return f"this machine has no energy counters of its CPU ({ROOT}/intel-rapl:*)"
        if self.read_j() is None:
            allow = f"chmod a+r {ROOT}/intel-rapl:*/energy_uj"
            return f"the energy counters of the CPU cannot be read: allow it with {allow}"
        return None


def _is_package(folder: Path) -> bool:
    """Not the whole platform (psys), which contains the packages."""
    try:
        return (folder / "name").read_text("ascii").startswith("package")
    except OSError:
        return False
