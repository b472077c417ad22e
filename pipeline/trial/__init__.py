"""One trial: the fixed steps, and what became of them."""
