"""What is served: its shape, its size in memory, its files and its tokenizer."""
