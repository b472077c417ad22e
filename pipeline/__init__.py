"""servetune: tune LLM inference servers. Start reading at trial/run.py; __main__.py is the command line."""
