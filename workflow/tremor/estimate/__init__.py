"""What a target will cost before it runs: jobs, model calls, operations, seconds here, memory, disk."""
