"""The neurons: for each a function over a whole sequence and a module that owns its parameters."""

from .lif import LIF, CubaLIF, LIFResult, LIFState

__all__ = ["LIF", "CubaLIF", "LIFResult", "LIFState"]
