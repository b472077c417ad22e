"""Says in a sentence which settings go with which kind of failure. Pure: it counts what was run, and claims no more."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import BY_SURROUNDINGS, FailureKind
from pipeline.core.values import Scalar, value

LEAST = 2  # failures of a kind before anything is said of it
CLEAR = 0.6  # F1 score from which a rule is told
WORTH = 0.1  # by how much a second condition has to raise it
MANY = 40  # single conditions that are tried in pairs
Mask = NDArray[np.bool_]


@value
class Observed:
    """One trial: its settings, left out where unknown, and how it failed; None: it was measured."""

    settings: Mapping[str, Scalar]
    kind: FailureKind | None


@value
class Condition:
    """One knob's part of a rule."""

    knob: str
    relation: Literal["≥", "≤", "="]
    bound: Scalar

    @property
    def words(self) -> str:
        """E.g. `max_num_seqs ≥ 512`."""
        return f"{self.knob} {self.relation} {self.bound}"


@value
class CrashRule:
    """Trials with these settings, and how many of them failed in this way."""

    kind: FailureKind
    conditions: tuple[Condition, ...]
    failed: int  # of this kind, inside the rule
    inside: int  # all trials inside the rule
    failed_outside: int
    outside: int

    @property
    def words(self) -> str:
        """One sentence."""
        where = " and ".join(condition.words for condition in self.conditions)
        others = f"; {self.failed_outside} of the {self.outside} others" if self.outside else ""
        return f"{self.kind}: {self.failed} of {self.inside} trials with {where}{others}."


def rules(observed: Sequence[Observed]) -> tuple[CrashRule, ...]:
    """The clearest rule of each kind of failure that was seen often enough; the commonest kind first."""
    counted = [one for one in observed if one.kind is None or one.kind not in BY_SURROUNDINGS]
    kinds: dict[FailureKind, int] = {}
    for one in counted:
        if one.kind is not None:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
    common = sorted((kind for kind, count in kinds.items() if count >= LEAST), key=lambda kind: -kinds[kind])
    return tuple(rule for kind in common if (rule := _rule(kind, counted)))


def _rule(kind: FailureKind, observed: Sequence[Observed]) -> CrashRule | None:
    """With one condition, or with two where that is clearly better."""
    failed = np.asarray([one.kind == kind for one in observed])
    masks = {condition: _mask(condition, observed) for condition in _conditions(observed, failed)}
    ranked = sorted(masks, key=lambda condition: -_f1(masks[condition], failed))[:MANY]
    if not ranked:
        return None
    best: tuple[Condition, ...] = (ranked[0],)
    score, inside = _f1(masks[ranked[0]], failed), masks[ranked[0]]
    for one, other in combinations(ranked, 2):
        both = masks[one] & masks[other]
        if one.knob != other.knob and _f1(both, failed) > max(score, _f1(masks[ranked[0]], failed) + WORTH):
            best, score, inside = (one, other), _f1(both, failed), both
    if score < CLEAR or inside.all():
        return None
    return CrashRule(
        kind=kind,
        conditions=best,
        failed=int((inside & failed).sum()),
        inside=int(inside.sum()),
        failed_outside=int((~inside & failed).sum()),
        outside=int((~inside).sum()),
    )


def _f1(inside: Mask, failed: Mask) -> float:
    return float(2 * (inside & failed).sum() / (inside.sum() + failed.sum()))


def _mask(condition: Condition, observed: Sequence[Observed]) -> Mask:
    return np.asarray([_holds(condition, one.settings.get(condition.knob)) for one in observed])


def _holds(condition: Condition, seen: Scalar | None) -> bool:
    if condition.relation == "=" or not (_is_number(seen) and _is_number(condition.bound)):
        return condition.relation == "=" and seen == condition.bound
    return seen >= condition.bound if condition.relation == "≥" else seen <= condition.bound  # type: ignore[operator]


def _conditions(observed: Sequence[Observed], failed: Mask) -> Iterator[Condition]:
    """Bounds at the values with which trials have failed: a rule says nothing of what was not run."""
    for knob in dict.fromkeys(name for one in observed for name in one.settings):
        every = {one.settings[knob] for one in observed if knob in one.settings}
        hit = {one.settings[knob] for one, bad in zip(observed, failed, strict=True) if bad and knob in one.settings}
        if len(every) == 1:
            continue
        for seen in sorted(hit, key=str):
            if _is_number(seen):
                yield Condition(knob=knob, relation="≥", bound=seen)
                yield Condition(knob=knob, relation="≤", bound=seen)
            else:
                yield Condition(knob=knob, relation="=", bound=seen)


def _is_number(seen: Scalar | None) -> bool:
    return isinstance(seen, int | float) and not isinstance(seen, bool)
