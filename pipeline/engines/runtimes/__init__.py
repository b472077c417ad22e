"""Engines that need a program of ours; most runtimes are one YAML and nothing here."""
