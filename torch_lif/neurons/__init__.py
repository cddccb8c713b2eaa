"""The neurons: for each a function over a whole sequence and a module that owns its parameters."""

from .alif import ALIF, ALIFResult, ALIFState
from .cuba_lif import CubaLIFResult, CubaLIFState, RefractoryCubaLIF
from .li import LI, LIResult, LIState
from .lif import LIF, CubaLIF, LIFResult, LIFState

__all__ = [
    "ALIF",
    "LI",
    "LIF",
    "ALIFResult",
    "ALIFState",
    "CubaLIF",
    "CubaLIFResult",
    "CubaLIFState",
    "LIFResult",
    "LIFState",
    "LIResult",
    "LIState",
    "RefractoryCubaLIF",
]
