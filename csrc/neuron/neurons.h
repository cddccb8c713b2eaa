/* The list of neurons. Each name here has a header csrc/neuron/<name>.h and becomes the op
 * torch_lif::<name>. csrc/compile.py reads this list too: it compiles the loops once for every
 * neuron. */
#ifndef LIF_NEURONS_H
#define LIF_NEURONS_H

#define LIF_NEURONS(NEURON) \
  NEURON(lif)               \
  NEURON(alif)              \
  NEURON(euler_lif)         \
  NEURON(li)

#endif
