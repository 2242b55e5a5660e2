"""What Outlay knows about money: pure and synchronous, no I/O, no clock, no randomness."""
