"""Started as `python -m sglang.launch_server --model-path MODEL --port PORT ...`."""

import sys

from standin import sglang_engine

if __name__ == "__main__":
    sglang_engine.main(sys.argv[1:])
