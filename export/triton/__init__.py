"""A model repository for Triton, and a Triton server without a GPU to try it on."""

from __future__ import annotations

from .repository import check_config, write_repository
from .server import TritonServer, find_server

__all__ = ["TritonServer", "check_config", "find_server", "write_repository"]
