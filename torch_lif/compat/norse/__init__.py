"""norse's leaky integrator and LIF, `norse.torch`: one step, a fused sequence, cells and layers.

Names, argument order, states and defaults are norse's, time first. States are explicit, differentiable and never
detached. Parameter and state tuples of norse itself are taken too; norse need not be installed. docs/compat.md lists
the differences.

tuples.py has the parameters and states, functions.py and modules.py what is called. arguments.py converts norse's
arguments into what the kernels take. sequences.py and steps.py call the kernels, for a whole sequence and for one step.
"""

from .functions import (
    li,
    li_feed_forward_step,
    li_step,
    lif,
    lif_feed_forward_integral,
    lif_feed_forward_step,
    lif_recurrent,
    lif_step,
)
from .modules import LI, LIF, LICell, LIFCell, LIFRecurrent, LIFRecurrentCell, LILinearCell
from .tuples import LIFFeedForwardState, LIFParameters, LIFState, LIParameters, LIState

__all__ = [
    "LI",
    "LIF",
    "LICell",
    "LIFCell",
    "LIFFeedForwardState",
    "LIFParameters",
    "LIFRecurrent",
    "LIFRecurrentCell",
    "LIFState",
    "LILinearCell",
    "LIParameters",
    "LIState",
    "li",
    "li_feed_forward_step",
    "li_step",
    "lif",
    "lif_feed_forward_integral",
    "lif_feed_forward_step",
    "lif_recurrent",
    "lif_step",
]
