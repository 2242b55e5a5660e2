"""Outlay: self-hosted, policy-gated, automated crypto payouts."""

__version__ = "0.1.0"
