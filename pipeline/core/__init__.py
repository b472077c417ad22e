"""The project's terms as frozen values, and pure arithmetic on them. Its only effect: its own files."""
