"""What was signed, by whom, over exactly which bytes: canonical JSON, challenges, sealed tokens, assertions, records.

Pure of network, database and clock; everything here can be run offline by an auditor.
"""
