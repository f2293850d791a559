"""What all tests share: the processor, where several workers of pytest-xdist run them.

Each worker gets its share of the cores. This is said here, before a test or another conftest imports torch,
which counts them once: threads too many wait for each other, ten times as long as the work takes.
"""

from __future__ import annotations

import os

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))
