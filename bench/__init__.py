"""Measurements beside their limits, on the machine they run on: ``python -m bench``. Read README.md first."""
