"""The keeper while it has nothing to do: a process that waits for a word, and becomes the keeper when it has to act.

`python -I -S waiting.py SINCE FOLDER ARGV`, started by backends/keeper.py alone. The keeper itself starts with every
trial, for 0.15 s of a core, has 40 MB, and hardly ever anything to do. ARGV replaces us when somebody has changed
FOLDER after SINCE (ns), because the keeper notes what lies there; and with GONE behind it when stdin ended without a
byte. A byte is the end. Imports nothing of the pipeline: it must start in no time.
"""

import os
import select
import sys

GONE = "gone"
LOOK_S = 0.5


def main(since_ns: int, folder: str, argv: list[str]) -> int:
    """Wait."""
    first = changed(folder)
    while not select.select([0], [], [], LOOK_S)[0]:
        now = changed(folder)
        if now > since_ns or now != first:
            os.execv(argv[0], argv)  # noqa: S606 - the same process: it has the pipe, the locks and its session
    if not os.read(0, 1):
        os.execv(argv[0], [*argv, GONE])  # noqa: S606
    return 0


def changed(folder: str) -> int:
    """When something was last made or removed there, in ns; 0: there is no such folder."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - pathlib takes as long as all the rest
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
