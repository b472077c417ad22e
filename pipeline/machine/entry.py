"""What every command has in common from its start to its exit code."""

import signal
import sys
from collections.abc import Callable

from pipeline.core.errors import ConfigError, Interrupted
from pipeline.machine import console, home, signals

BAD_INPUT = 2


def run(main: Callable[[], int]) -> int:
    """The exit code of the command, run to its end though nobody reads what it prints; 128 + signal if one stops it."""
    console.endure()
    try:
        with signals.interruptible():
            home.settle()
            return main()
    except ConfigError as error:  # of the home folder: a command words its own
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except Interrupted as stop:
        signals.acknowledge()
        sys.stderr.write(f"Stopped by {signal.Signals(stop.signum).name}.\n")
        return 128 + stop.signum
