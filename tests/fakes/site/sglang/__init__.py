"""The stand-in's face as SGLang."""
