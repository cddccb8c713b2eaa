"""The neurons: for each a function over a whole sequence and a module that owns its parameters."""

from .li import LI, LIResult, LIState
from .lif import LIF, CubaLIF, LIFResult, LIFState

__all__ = ["LI", "LIF", "CubaLIF", "LIFResult", "LIFState", "LIResult", "LIState"]
