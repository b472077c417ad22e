"""The search of a sweep as an ask/tell core on Optuna, without Hydra: `pipeline.sweep.tuner` is its Hydra shell."""
