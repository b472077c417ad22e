"""The operating system's side: processes, signals, locks, GPUs and the terminal."""
