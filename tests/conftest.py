"""Makes `tests/shared.py` importable and keeps every test on one thread per process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from hypothesis import settings

settings.register_profile("robopolicy", deadline=None)
settings.load_profile("robopolicy")
