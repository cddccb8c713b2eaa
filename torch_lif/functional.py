"""The neurons as functions of a whole sequence: explicit parameters, explicit state, gradients through all of them."""

from .neurons.lif import lif

__all__ = ["lif"]
