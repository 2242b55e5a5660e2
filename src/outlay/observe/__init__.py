"""What a process tells of itself: counters, gauges, traces and its health. Nothing here moves a payout."""
