"""The harness: the only room that runs anything. Start it as `bench` or `python -m bench`."""
