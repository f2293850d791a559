"""Pretrained networks opened, in whatever form people have them."""

from __future__ import annotations

from .host import Host
from .inputs import guess_inputs, spatial_axes, try_inputs
from .opening import join_inputs, load, open_host

__all__ = ["Host", "guess_inputs", "join_inputs", "load", "open_host", "spatial_axes", "try_inputs"]
