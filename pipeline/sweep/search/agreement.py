"""Whether two commands are one search; what differs, in overrides as they are typed."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from optuna.study import Study
from pydantic import ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.values import from_json, to_json
from pipeline.sweep.search.space import Choice, Space, Span, spelled

Told = Mapping[str, Sequence[str]]  # space: dimensions as JSON; overrides: of all trials; directions; LEARNS
LEARNS = "learn_from"  # folders of earlier sweeps, each with a fingerprint of its records behind it


def of(space: Space, directions: Sequence[str], learns: Sequence[str], fixed: Sequence[str] | None) -> Told:
    """What a command says; nothing of overrides where there are none to compare."""
    told = {"space": [to_json(one) for one in space.dimensions], "directions": list(directions), LEARNS: list(learns)}
    return told if fixed is None else {**told, "overrides": sorted(fixed)}


def reach(study: Study, told: Told) -> None:
    """Make sure that all processes on a study, also later ones, mean the same.

    Raises:
        ConfigError: it was begun with something else.
    """
    seen = {LEARNS: [], **study.user_attrs} if "space" in study.user_attrs else study.user_attrs
    check({name: seen[name] for name in told if name in seen}, told)
    for name in told.keys() - study.user_attrs.keys():
        study.set_user_attr(name, told[name])


def check(seen: Told, told: Told) -> None:
    """Accept a command that is the search that was begun. What was not said then is not compared.

    Raises:
        ConfigError: it is another one.
    """
    if all(list(told[name]) == list(one) for name, one in seen.items()):
        return
    had, has = (list(_words({name: each[name] for name in seen})) for each in (seen, told))
    differ = _difference(had, has) or _changed(seen, told) or _directions(seen, told)
    raise ConfigError(f"This folder holds another search. {differ} {REMEDY}")


REMEDY = "Repeat that command, or set another hydra.sweep.dir (or hydra.sweeper.study_name)."


def _difference(had: Sequence[str], has: Sequence[str]) -> str:
    there, here = (shlex.join(word for word in one if word not in other) for one, other in ((had, has), (has, had)))
    if there and here:
        return f"It was started with {there}, where this command has {here}."
    if there:
        return f"It was started with {there}, which this command lacks."
    if here:
        return f"It was started without {here}."
    names = shlex.join(word.partition("=")[0] for word in has)
    return f"Its overrides come in another order than here ({names})." if had != has else ""


def _changed(seen: Told, told: Told) -> str:
    """Which earlier sweeps are not what they were."""
    known = seen.get(LEARNS, ())
    names = [_folder(one) for one in told.get(LEARNS, ()) if one not in known]
    words = f"The records in {', '.join(names)}, from which it learns, have changed since then."
    return words if names else ""


def _folder(learned: str) -> str:
    return learned.rpartition(" ")[0]


def _directions(seen: Told, told: Told) -> str:
    had, has = (", ".join(each.get("directions", ())) for each in (seen, told))
    return f"Its objectives want {had}; those of this command {has}."


def _words(told: Told) -> Iterator[str]:
    yield from told.get("overrides", ())
    if learned := [*map(_folder, told.get(LEARNS, ()))]:
        yield f"hydra.sweeper.learn_from=[{','.join(learned)}]"
    for text in told.get("space", ()):
        yield _override(text)


def _override(text: str) -> str:
    try:
        (one,) = from_json(Space, f'{{"dimensions": [{text}]}}').dimensions
    except ValidationError:  # of another version
        return text
    return f"{one.name}={_values(one)}"


def _values(one: Choice | Span) -> str:
    if isinstance(one, Choice):
        return ",".join(one.values)
    low, high = spelled(one.low), spelled(one.high)
    if one.step is not None:
        return f"range({low},{spelled(one.high + one.step)},{spelled(one.step)})"
    ends = f"interval({low},{high})"
    made = f"tag(log,{ends})" if one.is_log else ends
    return f"int({made})" if one.is_whole else made
