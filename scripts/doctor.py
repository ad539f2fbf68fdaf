"""Says what works on this machine: `python scripts/doctor.py`."""

from robopolicy.command import command
from robopolicy.jobs.doctor import doctor

if __name__ == "__main__":
    command("doctor")(doctor)()
