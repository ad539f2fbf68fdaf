"""robopolicy: learned robot manipulation from demonstrations to a policy that runs in a loop.

This package is the library; it imports neither `hardware` nor `sim`. `docs/architecture.md` has the map.
"""

__version__ = "0.1.0"
