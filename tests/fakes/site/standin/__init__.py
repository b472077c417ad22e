"""A stand-in for SGLang and vLLM: their command lines, endpoints, failures and, roughly, their latencies. No GPU.

Written from the engines' sources, not from this project's rules, so that the two can disagree. Environment:

- STANDIN_FAULT=<name>[:argument]  how it fails, see faults.py
- STANDIN_GPU=sm90                 the GPU it believes in, see gpu.py; STANDIN_GPU_MEMORY (GiB), STANDIN_GPUS
- STANDIN_SPEED=5                  how many times faster than the GPU it answers
- STANDIN_VERSION=0.5.10.post1     another version's command line; else the version of the metadata on the path
"""
