"""Started as `python -m vllm.entrypoints.cli.main serve MODEL --port PORT ...`."""

import sys

from standin import vllm_engine

if __name__ == "__main__":
    vllm_engine.main(sys.argv[1:])
