"""What others would do: programs that run in an environment of their own (``bench/.venv``), without our code."""
