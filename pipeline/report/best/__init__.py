"""Writes `best/` of a sweep: everything needed to run its winner elsewhere and to check its performance again."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.evaluation import Change
from pipeline.core.files import write_atomically
from pipeline.core.record import Record
from pipeline.core.values import to_json
from pipeline.report.best import answers, card, cluster, containers, scripts

EXECUTABLE = 0o755
CARD = "card.json"


def write(
    folder: Path,
    winner: Record,
    records: Sequence[Record],
    verdict: Sequence[str] | None = None,
    evaluations: Sequence[Change] = (),
) -> None:
    """Write the folder anew.

    Raises:
        OSError: it cannot be written.
    """
    files, left_out = _deployable(winner)
    told = replace(card.of(winner, records, verdict, left_out), evaluations=tuple(evaluations))
    files |= {
        "overrides.txt": scripts.overrides(winner),
        "command.sh": scripts.command(winner),
        "recheck.sh": scripts.recheck(winner),
        CARD: to_json(told) + "\n",
        "card.md": card.markdown(told),
    }
    files |= answers.files(winner, records)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        if path.suffix == ".sh":
            path.chmod(EXECUTABLE)
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()  # of an earlier winner


def remove(folder: Path) -> None:
    """Remove what an earlier end of the sweep has written; a folder without its card is not ours."""
    if (folder / CARD).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def _deployable(winner: Record) -> tuple[dict[str, str], dict[str, str]]:
    """What starts the engine, by file name; and what there is none of, with the reason."""
    files: dict[str, str] = {}
    if winner.config.backend.is_endpoint:
        return files, {"what starts the engine": "the server was there already, and nothing is known of its command"}
    left_out = scripts.withheld(winner)
    for name, make in (("serve.sh", scripts.serve), ("docker", containers.files), ("ome", cluster.files)):
        try:
            files |= make(winner)
        except PipelineError as error:
            left_out[name] = str(error).splitlines()[0]
    return files, left_out
