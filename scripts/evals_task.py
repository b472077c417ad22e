"""Writes the items of servetune's own evaluation, 120 short completions: `python scripts/evals_task.py [FILE]`."""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "pipeline" / "evals_tasks" / "servetune_words.jsonl"
EACH = 40
NOUNS = (
    "apple bridge candle desert engine forest garden hammer island jacket kettle ladder mirror needle orange pencil "
    "rabbit saddle ticket valley window yellow anchor bottle carpet dragon feather guitar harbor iron jungle kitten "
    "lemon marble napkin oyster pepper ribbon silver tunnel"
)
SUMS = "2 + 1 = 3\n5 + 4 = 9\n7 + 6 = 13\n{} + {} ="
COPIES = "stone: stone\nriver: river\ncoffee: coffee\n{}:"
LARGER = (
    "The larger of 3 and 8 is 8\nThe larger of 9 and 2 is 9\nThe larger of 4 and 7 is 7\nThe larger of {} and {} is"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.parse_args(argv).file.write_text("".join(f"{json.dumps(item)}\n" for item in items()))


def items() -> Iterator[dict[str, str]]:
    """Sums, words to repeat, and numbers to compare; always the same ones."""
    dice = random.Random(270)  # noqa: S311 - questions
    pairs = [(one, other) for one in range(1, 13) for other in range(1, 13)]
    for one, other in dice.sample(pairs, EACH):
        yield {"kind": "sum", "question": SUMS.format(one, other), "answer": str(one + other)}
    for noun in NOUNS.split():
        yield {"kind": "copy", "question": COPIES.format(noun), "answer": noun}
    for one, other in dice.sample([pair for pair in pairs if pair[0] != pair[1]], EACH):
        yield {"kind": "larger", "question": LARGER.format(one, other), "answer": str(max(one, other))}


if __name__ == "__main__":
    main()
