/* The table of surrogates as data, for the op layer and Python. */
#define LIF_REAL 32
#include "args.h"
#include "real.h"
#include "surrogate.h"

#define LIST(name, class_name, params, window) {#name, #class_name, params, window},
const struct lif_surrogate lif_surrogates[] = {LIF_SURROGATES(LIST){0, 0, 0, 0}};
