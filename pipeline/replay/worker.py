"""A process that plays searches: `python -m pipeline.replay.worker`, started by `work.py` and by nobody else."""

import json
import os
import sys

from pipeline.machine import companion
from pipeline.replay import work


def main() -> int:
    """Answer one job after the other, until there are no more."""
    companion.die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is for the log
    for line in sys.stdin:
        answers.write(json.dumps(work.answer(json.loads(line))) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
