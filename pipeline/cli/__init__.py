"""The command `servetune`: its words, its help, its completion in a shell. Light: it imports what a word needs."""
