"""One trial: its fixed steps and their outcome."""
