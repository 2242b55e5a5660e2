"""Our own API, beside the Dfns wire API."""
