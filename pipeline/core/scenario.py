"""The tokens that a traffic scenario asks for. Pure. Source: genai-bench 0.0.5, scenarios/text.py."""

import re

from pipeline.core.values import value

SIGMAS = 3  # a normal distribution is taken to end here


@value
class Tokens:
    """Tokens of one request."""

    input: float
    output: float

    @property
    def total(self) -> float:
        """Prompt and answer."""
        return self.input + self.output


def mean(scenario: str) -> Tokens:
    """The mean request of D(in,out), N(mean,sd)/(mean,sd), U(min,max)/(min,max) or U(in_max,out_max)."""
    kind, numbers = _read(scenario)
    match kind, numbers:
        case "N", [prompt, _, answer, _]:
            return Tokens(input=prompt, output=answer)
        case "U", [low, high, shortest, longest]:
            return Tokens(input=(low + high) / 2, output=(shortest + longest) / 2)
        case "U", [high, longest]:
            return Tokens(input=(1 + high) / 2, output=(1 + longest) / 2)
    return Tokens(input=numbers[0], output=numbers[1])


def longest(scenario: str) -> Tokens:
    """The longest request to expect of a scenario."""
    kind, numbers = _read(scenario)
    match kind, numbers:
        case "N", [prompt, spread, answer, width]:
            return Tokens(input=prompt + SIGMAS * spread, output=answer + SIGMAS * width)
        case "U", [_, high, _, answer]:
            return Tokens(input=high, output=answer)
    return Tokens(input=numbers[0], output=numbers[1])


def _read(scenario: str) -> tuple[str, list[int]]:
    return scenario[0], [int(number) for number in re.findall(r"\d+", scenario)]
