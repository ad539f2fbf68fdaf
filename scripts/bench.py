"""Measures a hot path, or samplers against a closed form:
`python scripts/bench.py name=loading|recording|training|inference|rendering|loop|samplers`.
"""

from robopolicy.command import command
from robopolicy.jobs.bench import bench

if __name__ == "__main__":
    command("bench")(bench)()
