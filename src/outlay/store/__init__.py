"""Every SQL statement. One module a noun; the tables are in ``schema``, the units in ``database``."""
