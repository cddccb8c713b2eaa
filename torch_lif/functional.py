"""The neurons as functions of a whole sequence: explicit parameters, explicit state, gradients through all of them."""

from .neurons.li import li
from .neurons.lif import lif

__all__ = ["li", "lif"]
