"""What servetune knows about engines: their flags, rules and failure messages, and how to talk to one."""
