"""Judging a policy: lockstep episodes in simulation, intervals, paired comparisons and the report."""
