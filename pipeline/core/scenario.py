"""The tokens that a traffic scenario asks for. Pure. Source: genai-bench 0.0.5, scenarios/text.py."""

import random
import re

from pipeline.core.values import value

LARGEST_TOKENS = 10**9
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


def drawn(scenario: str, count: int, *, seed: int) -> tuple[tuple[int, int], ...]:
    """The tokens of so many prompts and answers, drawn as the scenario says; the same for the same seed."""
    kind, numbers = _read(scenario)
    chance = random.Random(f"{seed} lengths")  # noqa: S311 - not for secrets

    def one(side: int) -> int:
        if kind == "D":
            return numbers[side]
        low, high = numbers[2 * side : 2 * side + 2] if len(numbers) > 2 else (1, numbers[side])
        return max(1, round(chance.gauss(low, high)) if kind == "N" else chance.randint(low, high))

    return tuple((one(0), one(1)) for _ in range(count))


def fault(scenario: str) -> str | None:
    """Why no request can be drawn as the scenario says, in words; None: it can.

    genai-bench takes these as they are: it asks for no token, or draws between the bounds in either order.
    """
    kind, numbers = _read(scenario)
    if max(numbers) > LARGEST_TOKENS:
        return f"at most {LARGEST_TOKENS} tokens are taken"
    if kind == "U" and len(numbers) == len("io") * 2:
        for side, (low, high) in {"input": numbers[:2], "output": numbers[2:]}.items():
            if low > high:
                return f"{side} tokens from {low} to {high}: the smaller number comes first"
    sizes = numbers[::2] if kind == "N" else numbers
    return "a request needs at least 1 token of input and 1 of output" if 0 in sizes else None


def same(one: str, other: str) -> bool:
    """Whether two scenarios are one, though their numbers may be spelled differently (D(016,16))."""
    return _read(one) == _read(other)


def _read(scenario: str) -> tuple[str, list[int]]:
    return scenario[0], [int(number) for number in re.findall(r"\d+", scenario)]
