/* The structs that the op layer (PyTorch) and the kernels share, in plain C. */
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
  LIF_CHECKPOINT_INTERVAL = 16, /* time steps from one saved state to the next; the backward replays
                                   the steps between on chip */
  LIF_MASK_STEPS = 32           /* time steps in one word of the mask */
};
/* Synapses: loops with a smaller number of them hold a neuron's values in registers, the loops with
 * LIF_MANY take any number and keep the values in memory. A macro, because #if asks for it. */
#define LIF_MANY 9

/* How wide a field is, for a layer of N neurons with S synapses each. */
enum lif_kind {
  LIF_PER_NEURON = 1,  /* one value per neuron */
  LIF_PER_SYNAPSE = 2, /* S values per neuron, none if S = 0 */
  LIF_PER_CURRENT = 3, /* S values per neuron, one if S = 0: what arrives at the neuron, with or
                          without a synapse */
  LIF_OPTIONAL = 4, /* flag: may be left out and is then 0; an optional state exists only with the
                       parameter of the same name */
  LIF_OPTIONAL_PER_NEURON = LIF_OPTIONAL | LIF_PER_NEURON,
  /* What only a layer with recurrent weights has. The time loop takes care of it (see
   * lif_recurrence), not the neuron. */
  LIF_OF_RECURRENCE = 8, /* flag: exists only with recurrent weights */
  LIF_RECURRENT = LIF_OF_RECURRENCE | LIF_OPTIONAL |
      LIF_PER_CURRENT,                            /* the recurrent input, and its bias */
  LIF_WEIGHTS = LIF_OF_RECURRENCE | LIF_OPTIONAL, /* (N, N * S), from each neuron to each current */
  LIF_RECURRENT_STATE = LIF_OF_RECURRENCE | LIF_OPTIONAL |
      LIF_PER_NEURON /* spikes of the previous step */
};

struct lif_field {
  const char *name;
  int kind;
};

/* The description of a neuron for the op layer: names in the order in which its tensors are passed.
 * describe.c makes it from the neuron's header. */
struct lif_neuron {
  const char *name;
  int spiking;   /* has a spike function and so takes a surrogate */
  int recurrent; /* may have recurrent weights: w_rec and b_rec are then its last parameters, the
                    spikes its last state */
  int maskable;  /* one bit per step is enough for its backward, if the surrogate is a window and no
                    parameter needs a gradient */
  int keeps;     /* numbers per step that its backward needs if no parameter needs a gradient; 0:
                    nothing is saved then */
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
  int window; /* whether its slope is 1/threshold where v >= threshold - surrogate_params[0], and 0
                 elsewhere */
};

enum lif_storage { LIF_FLOAT32, LIF_FLOAT64, LIF_BFLOAT16, LIF_FLOAT16, LIF_STORAGES };

/* A tensor indexed by [t][b][n][s]. Strides are in elements, and 0 where one value is shared. data
 * == NULL: the tensor was left out. */
struct lif_tensor {
  void *data;
  int64_t t, b, n, s;
};

/* What the forward keeps for the backward. */
enum lif_kept_mode {
  LIF_KEPT_NOTHING,
  LIF_KEPT_MASK,  /* whether the surrogate's window was open, a bit per step */
  LIF_KEPT_STATES /* the states before every so many steps; the backward replays those between */
};

struct lif_kept {
  int mode;  /* enum lif_kept_mode */
  int steps; /* LIF_KEPT_STATES: from one kept state to the next; else 0 */
};

struct lif_options {
  int surrogate; /* LIF_SURROGATE_*, or -1 for a neuron that does not spike */
  int smooth; /* replace the spike by the surrogate's antiderivative, to check gradients by finite
                 differences */
  int param_gradients; /* whether the backward sums gradients of parameters at all */
  int inputs_given;    /* a bit for each input that was not left out */
  int params_given;    /* a bit for each parameter */
  double surrogate_params[LIF_MAX_SURROGATE_PARAMS];
  double values[LIF_MAX_OPTIONS]; /* the neuron's own options, in the order of its header */
};

/* The recurrent part of a launch: in[t] = spikes[t - 1] @ weights + bias is added to the input of
 * step t. If no initial spikes are given, in[0] is 0, without the bias. All of it is float, or
 * double where storage is LIF_FLOAT64. */
struct lif_recurrence {
  const void *weights; /* (N, N * S) dense: row n goes from neuron n to every current; NULL: no
                          recurrence */
  const void *weights_transposed; /* (N * S, N) dense, for the backward */
  /* CPU: which rows of the weights (in the backward: of the transposed weights) hold an infinity or
   * NaN; NULL: none */
  const unsigned char *unbounded;
  const void *bias;     /* (N * S) dense, or NULL */
  int resumed;          /* initial spikes were given */
  struct lif_tensor in; /* the recurrent input of each step; the forward writes it if data is not
                           NULL, the backward reads it */
  struct lif_tensor grad_in; /* the gradient of `in`; the backward writes it if data is not NULL */
};

/* One launch. Sequences (inputs, out, records and their gradients) are stored as `storage`. States,
 * parameters, checkpoints and their gradients are float, or double where storage is LIF_FLOAT64.
 * The backward needs no output. With recurrence, the arrays of states have one entry more, after
 * the neuron's own states: the spikes of the previous step. */
struct lif_args {
  int64_t T, B, N;
  int S;
  int storage;
  struct lif_kept kept;
  int tile; /* CPU: neurons that one task takes through time together */
  struct lif_options options;
  struct lif_recurrence recurrence;
  struct lif_tensor inputs[LIF_MAX_INPUTS];
  struct lif_tensor params[LIF_MAX_PARAMS];
  struct lif_tensor first_state[LIF_MAX_STATES];
  struct lif_tensor
      checkpoints[LIF_MAX_STATES]; /* t counts checkpoints: the state before step t * interval */
  /* uint32_t, instead of checkpoints: bit t % 32 of word t / 32 says whether the surrogate's window
   * was open. */
  struct lif_tensor mask;
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
  int add_to_grad_params; /* CUDA: add to the sums that grad_params holds already */
  int streaming;          /* CPU: outputs are written past the caches */
  void *workspace;        /* CUDA: see lif_cuda_kernels.workspace in csrc/cuda/kernels.h */
};

#ifdef __CUDACC__
#define LIF_ON_BOTH static constexpr __host__ __device__ /* on the host and on the GPU */
#else
#define LIF_ON_BOTH static inline __attribute__((always_inline))
#endif

/* Number of values a neuron has in a field of this kind. */
LIF_ON_BOTH int lif_width(int kind, int S) {
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
