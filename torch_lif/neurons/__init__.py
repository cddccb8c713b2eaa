"""The neurons: for each a function over a whole sequence and a module that owns its parameters."""

from .alif import ALIF, ALIFResult, ALIFState
from .euler_lif import EulerLIF, EulerLIFResult, EulerLIFState
from .li import LI, LIResult, LIState
from .lif import LIF, CubaLIF, LIFResult, LIFState

__all__ = [
    "ALIF",
    "LI",
    "LIF",
    "ALIFResult",
    "ALIFState",
    "CubaLIF",
    "EulerLIF",
    "EulerLIFResult",
    "EulerLIFState",
    "LIFResult",
    "LIFState",
    "LIResult",
    "LIState",
]
