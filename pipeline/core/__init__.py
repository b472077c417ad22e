"""The words of the project as frozen values, and pure arithmetic on them; no effect but on its own files."""
