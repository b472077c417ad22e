"""What is known of engines: their flags, rules and ways to die, and how to talk to one."""
