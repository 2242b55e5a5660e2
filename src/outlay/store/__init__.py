"""Every SQL statement. One module a noun; the tables are in ``schema``, the units in ``database``.

Statements that run for every request or payout are constants: building one anew and finding its compiled form again
takes SQLAlchemy several times as long as SQLite takes to run it (`make bench` shows the sum).
"""
