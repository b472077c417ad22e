"""Our own search strategy: a Gaussian process, a crash model and a few random trials. Only `sampler` knows Optuna."""
