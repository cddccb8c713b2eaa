/* What crosses the border between PyTorch and the kernels: plain C, known to both sides. */
#ifndef LIF_ARGS_H
#define LIF_ARGS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  LIF_MAX_INPUTS = 5,
  LIF_MAX_PARAMS = 12,
  LIF_MAX_STATES = 5,
  LIF_MAX_OPTIONS = 8,
  LIF_MAX_SURROGATE_PARAMS = 6,
  LIF_CHECKPOINT_INTERVAL = 16, /* time steps from one saved state to the next; the backward replays them on chip */
  LIF_MASK_STEPS = 32,          /* time steps of a word of the mask */
  LIF_MAX_REPLAYED_SYNAPSES = 2 /* more have no kernel of their own on CUDA: a neuron's values then live in device memory */
};

/* How wide a field is, for a layer of N neurons with S synapses each. */
enum lif_kind {
  LIF_PER_NEURON = 1,  /* one value a neuron */
  LIF_PER_SYNAPSE = 2, /* S values a neuron, none if S = 0 */
  LIF_PER_CURRENT = 3, /* S values a neuron, one if S = 0: what arrives at the neuron, with or without a synapse */
  LIF_OPTIONAL = 4,    /* flag: may be left out, and is then 0; a state: is kept only with the parameter of the same name */
  LIF_OPTIONAL_PER_NEURON = LIF_OPTIONAL | LIF_PER_NEURON,
  /* What a layer with recurrent weights has besides; the loop takes care of it (see lif_args), not the neuron. */
  LIF_OF_RECURRENCE = 8,                                                  /* flag: there only with recurrent weights */
  LIF_RECURRENT = LIF_OF_RECURRENCE | LIF_OPTIONAL | LIF_PER_CURRENT,     /* the recurrent input, and its bias */
  LIF_WEIGHTS = LIF_OF_RECURRENCE | LIF_OPTIONAL,                         /* (N, N * S), from each neuron to each current */
  LIF_RECURRENT_STATE = LIF_OF_RECURRENCE | LIF_OPTIONAL | LIF_PER_NEURON /* spikes of the step before */
};

struct lif_field {
  const char *name;
  int kind;
};

/* A neuron as the op layer sees it: names in the order in which its tensors are passed. Made from its header by describe.c. */
struct lif_neuron {
  const char *name;
  int spiking;      /* has a spike function, hence takes a surrogate */
  int recurrent;    /* may have recurrent weights: w_rec and b_rec are then its last parameters, the spikes its last state */
  int maskable;     /* its backward can do with a bit a step, if the surrogate is a window and no parameter needs a gradient */
  int keeps;        /* numbers of a step that its backward needs if no parameter needs a gradient; 0: then it needs nothing saved */
  int max_synapses; /* largest S; -1: any */
  int n_inputs, n_params, n_states, n_options;
  struct lif_field inputs[LIF_MAX_INPUTS];
  struct lif_field params[LIF_MAX_PARAMS];
  struct lif_field states[LIF_MAX_STATES];
  const char *options[LIF_MAX_OPTIONS];
};

struct lif_surrogate {
  const char *name;       /* of the op's argument */
  const char *class_name; /* of the Python class */
  const char *params;     /* "name=default ...", in the order of lif_options.surrogate_params */
  int window;             /* 1/threshold from threshold - surrogate_params[0] up, by v; else 0 */
};

enum lif_storage { LIF_FLOAT32, LIF_FLOAT64, LIF_BFLOAT16, LIF_FLOAT16, LIF_STORAGES };

/* A tensor indexed by [t][b][n][s]; strides in elements, 0 where one value is shared. data == NULL: left out. */
struct lif_tensor {
  void *data;
  int64_t t, b, n, s;
};

struct lif_options {
  int surrogate;       /* LIF_SURROGATE_*, or -1 for a neuron that does not spike */
  int smooth;          /* replace the spike by the surrogate's antiderivative, to check gradients by finite differences */
  int param_gradients; /* whether the backward sums gradients of parameters at all */
  int inputs_given;    /* a bit for each input that was not left out */
  int params_given;    /* a bit for each parameter */
  double surrogate_params[LIF_MAX_SURROGATE_PARAMS];
  double values[LIF_MAX_OPTIONS]; /* the neuron's own, in the order of its header */
};

/* The recurrent part of a launch: in[t] = spikes[t - 1] @ weights + bias is added to the input of step t. It is 0 in the first
 * step if no initial spikes are given, the bias included. All of it is float, or double where storage is LIF_FLOAT64. */
struct lif_recurrence {
  const void *weights;            /* (N, N * S) dense: row n goes from neuron n to every current; NULL: no recurrence */
  const void *weights_transposed; /* (N * S, N) dense, for the backward */
  const unsigned char
      *unbounded;   /* CPU: which rows of the weights (in the backward: of the transposed) hold an infinity or NaN; NULL: none */
  const void *bias; /* (N * S) dense, or NULL */
  int resumed;      /* initial spikes were given */
  struct lif_tensor in;      /* the recurrent input of each step: written by the forward if data, read by the backward */
  struct lif_tensor grad_in; /* its gradient of each step: written by the backward if data */
};

/* One launch. Sequences (inputs, out, records and their gradients) are stored as `storage`; states, parameters,
 * checkpoints and their gradients as float, or as double where storage is LIF_FLOAT64. The backward needs no output.
 * With recurrence, the arrays of states hold the spikes of the step before behind the neuron's own states. */
struct lif_args {
  int64_t T, B, N;
  int S;
  int storage;
  int checkpoint_interval; /* 0: there are no checkpoints */
  int tile;                /* neurons a CPU task walks through time together */
  struct lif_options options;
  struct lif_recurrence recurrence;
  struct lif_tensor inputs[LIF_MAX_INPUTS];
  struct lif_tensor params[LIF_MAX_PARAMS];
  struct lif_tensor first_state[LIF_MAX_STATES];
  struct lif_tensor checkpoints[LIF_MAX_STATES]; /* t counts checkpoints: the state before step t * interval */
  struct lif_tensor
      mask; /* uint32_t: bit t % 32 of word t / 32 says whether the surrogate's window was open; in place of checkpoints */
  /* forward */
  struct lif_tensor out;
  struct lif_tensor records[LIF_MAX_STATES]; /* the state after each step */
  struct lif_tensor last_state[LIF_MAX_STATES];
  /* backward */
  struct lif_tensor grad_out;
  struct lif_tensor grad_records[LIF_MAX_STATES];
  struct lif_tensor grad_last_state[LIF_MAX_STATES];
  struct lif_tensor grad_inputs[LIF_MAX_INPUTS];
  struct lif_tensor grad_params[LIF_MAX_PARAMS]; /* a sum over time for each [b][n][s] */
  struct lif_tensor grad_first_state[LIF_MAX_STATES];
  int add_to_grad_params; /* CUDA: the sums go on from what is there */
  int streaming;          /* CPU: outputs go past the caches */
  void *workspace;        /* CUDA with S > 2: see `fields` in csrc/cuda/kernels.h */
};

/* Number of values a neuron has in a field of this kind. */
static inline int lif_width(int kind, int S) {
  switch (kind & 3) {
    case LIF_PER_SYNAPSE: return S;
    case LIF_PER_CURRENT: return S > 0 ? S : 1;
    default: return 1;
  }
}

#ifdef __cplusplus
}
#endif
#endif
