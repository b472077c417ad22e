"""The stand-in's face as vLLM."""
