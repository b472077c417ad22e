"""The user's own prompts: reads the file, says what is in it, and deals it out to levels."""
