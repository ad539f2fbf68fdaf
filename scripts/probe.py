"""What the energy of an energy policy says: `python scripts/probe.py run=runs/ebt outside={robot:{beyond_m:0.05}}`."""

from robopolicy.command import command
from robopolicy.jobs.probe import probe

if __name__ == "__main__":
    command("probe")(probe)()
