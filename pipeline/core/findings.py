"""What is known about a trial before it is deployed, as values."""

from collections.abc import Mapping
from typing import Literal

from pipeline.core.values import Scalar, value

_WORST_FIRST = ("refused", "rewritten", "warned")


@value
class Finding:
    """One predicted problem of a trial: the engine will refuse to start, change a knob, or run badly."""

    rule: str
    verdict: Literal["refused", "rewritten", "warned"]
    reason: str
    source: str


@value
class Verdict:
    """All predicted problems of a trial. `knobs`: as asked, then as rewritten by the engine."""

    findings: tuple[Finding, ...]
    knobs: Mapping[str, Scalar | None]

    @property
    def word(self) -> str:
        """The worst finding: refused, rewritten or warned; ok if there is none."""
        seen = {finding.verdict for finding in self.findings}
        return next((word for word in _WORST_FIRST if word in seen), "ok")

    def reasons(self, word: str) -> tuple[str, ...]:
        """Why, for one of the words."""
        return tuple(finding.reason for finding in self.findings if finding.verdict == word)
