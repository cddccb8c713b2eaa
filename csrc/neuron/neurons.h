/* The lists of neurons and of their loops. csrc/compile.py reads them too. */
#ifndef LIF_NEURONS_H
#define LIF_NEURONS_H

#include "args.h"

/* Each name here has a header csrc/neuron/<name>.h and becomes the op torch_lif::<name>. */
#define LIF_NEURONS(NEURON) \
  NEURON(lif)               \
  NEURON(alif)              \
  NEURON(euler_lif)         \
  NEURON(li)

/* The loops are compiled once for every neuron and number of synapses in this list. A layer takes
 * the smallest of its neuron's numbers that is not below its own; what is left of the kernel's
 * synapses is then silent, which changes no bit (neuron.h). LIF_MANY stands for any number. */
#define LIF_LOOPS(LOOP) \
  LOOP(lif, 0)          \
  LOOP(lif, 1)          \
  LOOP(lif, 2)          \
  LOOP(lif, 4)          \
  LOOP(lif, 8)          \
  LOOP(lif, 9)          \
  LOOP(alif, 0)         \
  LOOP(alif, 1)         \
  LOOP(euler_lif, 0)    \
  LOOP(li, 0)

#define LIF_NEURON_INDEX(name) LIF_NEURON_##name,
enum { LIF_NEURONS(LIF_NEURON_INDEX) LIF_NEURON_COUNT };

/* The place in LIF_LOOPS of the loop for a layer of S synapses, or -1 if there is none. */
static inline int lif_find_loop(int neuron, int S) {
#define LIF_LOOP_ENTRY(name, synapses) {LIF_NEURON_##name, synapses},
  static const struct {
    int neuron, synapses;
  } loops[] = {LIF_LOOPS(LIF_LOOP_ENTRY)};
#undef LIF_LOOP_ENTRY
  for (int k = 0; k < (int)(sizeof loops / sizeof *loops); k++)
    if (loops[k].neuron == neuron && (loops[k].synapses >= S || loops[k].synapses == LIF_MANY))
      return k;
  return -1;
}

#endif
