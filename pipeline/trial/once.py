"""What is wrong for every trial of a command: found once, before a folder, a tracker's run or a report exists."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from pipeline.core.errors import CannotRun, ConfigError, PipelineError
from pipeline.core.record import Record
from pipeline.core.schema import Config
from pipeline.trial import hardware, preflight

MOST = 32  # kinds of trials that are looked at: a command with more of them is left to its trials
OWN = re.compile(r"(?<![\w.])runtime\.(?=[a-z])")  # settings of one engine
OF_THE_PLACE = ("preflight", "model")  # steps whose failures come of the place where the trial runs


def insist(kinds: Iterable[Config], *, is_sweep: bool) -> None:
    """Check that some trial of these kinds can run here. The first that can ends the look.

    Raises:
        CannotRun: none can; the message has each cause once.
    """
    if found := _causes(kinds):
        raise cannot_run(found, is_sweep=is_sweep)


def by_engine(kinds: Mapping[str, Iterable[Config]], *, may_be_all: bool = False) -> dict[str, list[PipelineError]]:
    """What keeps some engines of a sweep from running here, where others can.

    Args:
        kinds: of each engine's trials.
        may_be_all: perhaps nothing is left to run, so that none needs to.

    Raises:
        CannotRun: none can.
    """
    causes = {engine: [_of_engine(engine, error) for error in _causes(some)] for engine, some in kinds.items()}
    if all(causes.values()):
        if may_be_all:
            return {}
        every = [*{str(error): error for some in causes.values() for error in some}.values()]
        raise cannot_run(every, is_sweep=True, all_of="Mend what one of the engines lacks")
    return {engine: some for engine, some in causes.items() if some}


def _of_engine(engine: str, error: PipelineError) -> PipelineError:
    """The same, with the settings of the engine under its name, as a command of several engines takes them."""
    message, hint = (OWN.sub(f"{engine}.runtime.", words) for words in (str(error), error.hint))
    return PipelineError(message, kind=error.kind, hint=hint)


def _causes(kinds: Iterable[Config]) -> list[PipelineError]:
    """What is wrong for all of these kinds, each cause once; empty where one of them can run."""
    found: dict[str, PipelineError] = {}
    for number, config in enumerate(kinds):
        wrong = list(preflight.wrong(config))
        if not wrong or number >= MOST:
            return []
        found |= {str(error): error for error in wrong if str(error) not in found}
    return [*found.values()]


def cannot_run(causes: Sequence[PipelineError], *, is_sweep: bool, all_of: str = "Mend all of these") -> CannotRun:
    """The one error of a command none of whose trials can run."""
    who = "No trial of this sweep can run here" if is_sweep else "This trial cannot run here"
    if len(causes) == 1:
        return CannotRun(f"{who}: {causes[0]}", kind=causes[0].kind, hint=causes[0].hint)
    is_alike = len({error.hint for error in causes}) == 1
    lines = "".join(f"\n  {error}{'' if is_alike else f' {error.hint}'}" for error in causes)
    hint = causes[0].hint if is_alike else f"{all_of}: nothing was started or written."
    return CannotRun(f"{who}:{lines}", kind=causes[0].kind, hint=hint)


def resolved(config: Config) -> Config:
    """The configuration for the hardware that is here.

    Raises:
        ConfigError: a person has to choose.
        CannotRun: nobody can tell what is there.
    """
    try:
        return hardware.resolved(config)
    except ConfigError:
        raise
    except PipelineError as error:
        raise CannotRun(str(error), kind=error.kind, hint=error.hint) from error


def judge(kinds: Iterable[Config]) -> Callable[[Record], bool]:
    """Whether what ailed a trial that ran elsewhere ails every trial of these kinds, too.

    It does where they differ in nothing that a check looks at, but for GPUs: then if none takes fewer.
    """
    found = list(islice(kinds, MOST + 1))
    is_one = 0 < len(found) <= MOST and all(_place(one) == _place(found[0]) for one in found)
    fewest = min((one.parallelism for one in found), default=0)

    def is_for_all(done: Record) -> bool:
        is_place = done.status == "failed" and done.failure is not None and done.failure.step in OF_THE_PLACE
        return is_one and is_place and done.config.parallelism <= fewest

    return is_for_all


def _place(config: Config) -> tuple[object, ...]:
    """What the checks of another machine look at, but for the number of GPUs."""
    return config.runtime, config.model, config.backend, config.hardware, config.bench
