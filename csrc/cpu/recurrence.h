/* The matrix product of a recurrent layer on the CPU, for one batch item and time step at a
 * time. */
#ifndef LIF_RECURRENCE_H
#define LIF_RECURRENCE_H

#include "../neuron/real.h"

enum { ROWS_AT_ONCE = 4 };

/* sum[k] = start[k] (or 0) + sum over n of factors[n] * matrix[n][k]. Rows whose factor is 0 are
 * skipped, because most neurons are silent most of the time and such a row would add 0. Rows with
 * an infinity or NaN are not skipped; `unbounded` marks them (NULL: there are none). The rows are
 * added one after another in ascending order, some of them in one pass over `sum`, so that every
 * machine gives the same bits. */
static void combine_rows(const real *factors, int64_t rows, const real *matrix, int64_t length,
                         const unsigned char *unbounded, const real *start, real *restrict sum) {
  if (start)
    memcpy(sum, start, (size_t)length * sizeof *sum);
  else
    memset(sum, 0, (size_t)length * sizeof *sum);
  for (int64_t n = 0; n < rows;) {
    const real *found[ROWS_AT_ONCE];
    real factor[ROWS_AT_ONCE];
    int count = 0;
    for (; n < rows && count < ROWS_AT_ONCE; n++)
      if (factors[n] != REAL(0) || (unbounded && unbounded[n])) {
        found[count] = matrix + n * length;
        factor[count++] = factors[n];
      }
    if (count == ROWS_AT_ONCE) {
      const real *restrict a = found[0], *restrict b = found[1], *restrict c = found[2],
                           *restrict d = found[3];
      for (int64_t k = 0; k < length; k++)
        sum[k] = (((sum[k] + factor[0] * a[k]) + factor[1] * b[k]) + factor[2] * c[k]) +
                 factor[3] * d[k];
    } else {
      for (int row = 0; row < count; row++) {
        const real *restrict a = found[row];
        for (int64_t k = 0; k < length; k++) sum[k] += factor[row] * a[k];
      }
    }
  }
}

#endif
