"""Use cases. Each is one database unit and the only code that changes state on request."""
