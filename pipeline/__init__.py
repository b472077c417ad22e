"""servetune: tune LLM inference servers. Start at run.py; __main__.py is the command line."""
