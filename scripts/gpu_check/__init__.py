"""scripts/gpu-check: whether tuning works on this machine's GPU, with nothing to download."""
