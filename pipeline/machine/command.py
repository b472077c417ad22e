"""What every command has in common from its start to its exit code."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from pipeline.core.errors import Interrupted
from pipeline.machine import console, signals


def run(main: Callable[[], int]) -> NoReturn:
    """Run it to its end, even if nobody reads what it prints; a stop signal ends it in one line, as code 128 + signal.

    Raises:
        SystemExit: with the exit code.
    """
    console.endure()
    try:
        with signals.interruptible():
            code = main()
    except Interrupted as stop:
        signals.acknowledge()
        sys.stderr.write(f"Stopped by {signal.Signals(stop.signum).name}.\n")
        code = 128 + stop.signum
    sys.exit(code)
