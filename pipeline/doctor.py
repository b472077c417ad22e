"""`python -m pipeline.doctor [overrides]`: can this configuration run here? Deploys nothing."""

import argparse
import sys
from collections.abc import Sequence

from hydra import initialize_config_dir

from pipeline import preflight
from pipeline.command_line import CONF, composed, to_config
from pipeline.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0: every check passed; 1: one did not; 2: the configuration cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.doctor", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for python -m pipeline, e.g. runtime=llamacpp n_threads=2")
    overrides = parser.parse_args(argv).overrides
    try:
        with initialize_config_dir(str(CONF)):
            config = to_config(composed(overrides))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    is_well = True
    for name, passed, found in preflight.examine(config):
        is_well = is_well and passed
        sys.stdout.write(f"{'ok  ' if passed else 'FAIL'}  {name}: {found}\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
