"""The neurons as functions of a whole sequence: explicit parameters, explicit state, gradients through all of them."""

from .neurons.alif import alif
from .neurons.euler_lif import euler_lif
from .neurons.li import li
from .neurons.lif import lif

__all__ = ["alif", "euler_lif", "li", "lif"]
