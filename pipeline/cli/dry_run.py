"""`servetune dry-run [-m] overrides`: the pipeline's own command with dry_run=true."""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str], prog: str) -> int:
    """The command. 0: a trial would start; 1: none would; 2: the configuration cannot be used."""
    parser = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description="Show what each trial would be: whether it would start, the server's command line, the levels and "
        "the estimated time. Starts and writes nothing. It is short for dry_run=true.",
        epilog=f"example: {prog} -m runtime=sglang hardware=h100 attention_backend=flashinfer,fa3",
    )
    parser.add_argument("-m", "--multirun", action="store_true", help="show every trial of a sweep")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with configuration options of your own")
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="as for servetune")
    parser.parse_intermixed_args(argv)
    sys.argv = [sys.argv[0], *argv, "dry_run=true"]
    from pipeline.__main__ import main as run

    return run()
