"""What moves payouts by itself. Each part has one method, ``step() -> bool``: did I do something?

Rows are the truth: a step reads what there is to do, talks to chain or signer outside any unit, and records the
result in one unit. Killing the process between any two of these loses nothing and repeats nothing.
"""
