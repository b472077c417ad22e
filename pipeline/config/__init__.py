"""From Hydra's tree to one frozen Config, and from it to a trial's Plan."""
