"""The Dfns wire API."""
