"""The folder of a command: made, or found again, and claimed before anything is written to it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.outline import Outline
from pipeline.core import disk, files
from pipeline.core.errors import ConfigError
from pipeline.core.files import RunDir, SweepDir
from pipeline.machine import claims
from pipeline.sweep import resume
from pipeline.trial import at_work

_claimed: list[Path] = []


def insist(outline: Outline, *, is_sweep: bool) -> None:
    """Check that the command's folder can be written to and gone on with. Nothing is made.

    Raises:
        ConfigError: something else is in the place of a file or folder of ours.
        DiskFull: there is no room for a trial. A search that has begun may need none: its next trial asks.
    """
    if outline.folder is None:
        return
    if is_sweep and (found := _misplaced(SweepDir(outline.folder.path))):
        is_folder = found.is_dir()
        raise ConfigError(
            f"{found} is a {'folder' if is_folder else 'file'}; a sweep has a {'file' if is_folder else 'folder'} of "
            f"this name. Move it away, or set another hydra.sweep.dir."
        )
    if not outline.has_begun:
        disk.insist(outline.folder.path)


def _misplaced(sweep: SweepDir) -> Path | None:
    """What lies in the place of ours and is none: a folder where we have a file, or the other way round."""
    known = (sweep.mark, sweep.owners, sweep.incumbent(None), sweep.ranking, sweep.best, sweep.study, sweep.report)
    trials = (each for each in sweep.path.glob("[0-9]*") if each.name.isdecimal())
    wrong = [each for each in (*known, sweep.summary_csv, sweep.summary_parquet) if each.is_dir()]
    wrong += [each for each in (sweep.best_dir, sweep.attempts, sweep.tracker, *trials) if each.is_file()]
    return next(iter(wrong), None)


def settle(overrides: Sequence[str], outline: Outline, *, is_sweep: bool) -> list[str]:
    """The overrides that say which folder is this command's, beyond what is given; the folder is there and ours.

    A folder named after the time is always a new one, but for a search that was broken off.

    Raises:
        ConfigError: another command is at work in the folder, or has been.
        OSError: it cannot be made.
    """
    found = _broken_off(overrides, outline) or _made(outline)
    if found is None:
        return []
    if is_sweep:
        _claim(SweepDir(found).owners, _key(overrides) if outline.is_search else None)
    else:
        found = _claim_run(found)
    at_work.begin(found, is_sweep=is_sweep, is_search=outline.is_search, swept=outline.swept)
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    return ["{}='{}'".format(key, str(found).replace("'", "\\'"))]


def release() -> None:
    """Nothing more is written to the folder."""
    at_work.end()
    while _claimed:
        claims.give_back(_claimed.pop())


def _broken_off(overrides: Sequence[str], outline: Outline) -> Path | None:
    """The folder in which this search was broken off."""
    if not outline.is_search or outline.folder is None:
        return None
    is_placed = any(word.lstrip("+").startswith("hydra.sweep.dir=") for word in overrides)
    told = [*overrides, *_hardware(outline)]
    if folder := resume.begin(told, outline.folder.path.parent, is_placed=is_placed):
        print(f"Goes on in {folder}, where this command was broken off.")
    return folder


def _hardware(outline: Outline) -> list[str]:
    """The same command on another machine, with another GPU, is another search."""
    hardware = outline.hardware
    return [] if hardware is None or hardware.is_auto else [f"found: {hardware.name} x {hardware.gpu_count}"]


def _made(outline: Outline) -> Path | None:
    folder = outline.folder
    if folder is None:
        return None
    if folder.below is not None:
        made = folder.renamed(files.make_new(folder.named))
        made.mkdir(parents=True, exist_ok=True)
        return made
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder.path


def _claim_run(given: Path) -> Path:
    """The trial's folder, in the one that was given: what is made of its record lies beside it, as in a sweep."""
    path = given if given.name.isdecimal() else given / "0"  # named as a sweep names its trials
    if owners := claims.owners_of(SweepDir(path.parent).owners):
        raise claims.in_use(path.parent, owners[0])
    _insist_unused(RunDir(given))
    path.mkdir(exist_ok=True)
    _claim(RunDir(path).owners, None)
    _insist_unused(RunDir(path))
    return path


def _insist_unused(run: RunDir) -> None:
    if run.is_used:
        raise ConfigError(f"{run.path} already contains a trial: set another folder with hydra.run.dir=...")


def _claim(path: Path, key: str | None) -> None:
    claims.take(path, key)
    _claimed.append(path)


def _key(overrides: Sequence[str]) -> str:
    """What processes that share a search have in common: not where and how its trials run."""
    return resume.key("\n".join(sorted(word for word in overrides if not word.lstrip("+~").startswith("hydra"))))
