/* What NAME.c is made of. For intaglio.c and generated files alone: it may change. */
#ifndef INTAGLIO_PROGRAM_H
#define INTAGLIO_PROGRAM_H

#include <stddef.h>

#include "intaglio.h"

typedef enum {
  INTAGLIO_INPUT,
  INTAGLIO_OUTPUT,
  INTAGLIO_CONV2D,
  INTAGLIO_REQUANT,
  INTAGLIO_ADD,
  INTAGLIO_MAXPOOL2D,
  INTAGLIO_SUMPOOL2D,
  INTAGLIO_UPSAMPLE,
  INTAGLIO_CONCAT,
  INTAGLIO_PAD,
  INTAGLIO_LOOKUP,
  INTAGLIO_SELECT,
  INTAGLIO_CROP,
  INTAGLIO_SPACETODEPTH,
  INTAGLIO_DEPTHTOSPACE,
  INTAGLIO_MULTIPLY,
  INTAGLIO_INTERPOLATE
} intaglio_kind;

/* An accumulator narrower than proved. */
typedef enum {
  INTAGLIO_EXACT, /* there is none */
  INTAGLIO_WRAP,
  INTAGLIO_SATURATE_END,
  INTAGLIO_SATURATE_MAC
} intaglio_overflow;

/* One value for each channel, or a single one for all. */
typedef struct {
  const int64_t *values;
  int count;
} intaglio_table;

typedef struct {
  int kernel[2], stride[2], dilation[2];
  int padding[4]; /* top, bottom, left, right */
} intaglio_window;

/* Weights (O, kH, kW, I): in one of the two, int16_t where codes, weights and sums allow. */
typedef struct {
  const int16_t *narrow;
  const int64_t *wide;
  int groups;
  intaglio_overflow overflow;
  int bits; /* of a narrow accumulator */
} intaglio_kernel;

/* Operation n makes tensor n. Fields that an operation has not are 0. */
typedef struct {
  intaglio_kind kind;
  const int *inputs;
  int input_count;
  intaglio_window window;  /* Conv2d, pools; the padding of Pad, what Crop leaves out, blocks */
  intaglio_kernel kernel;  /* Conv2d */
  intaglio_table outside;  /* codes outside the image; Pad's, Select's value; zero points */
  intaglio_table m, b, s;  /* Requant; of Add m has two, Ma and Mb; of Interpolate m has two places
                              and two weights for each row, b for each column */
  int64_t offset, lo, hi;  /* Requant, Add */
  int rounding;            /* of these: see fixed.h */
  intaglio_table codes;    /* Lookup, from the smallest code of the input up, one table or each
                              channel's; channels of Select */
} intaglio_op;

struct intaglio_program {
  const char *digest; /* of the Program */
  int single;         /* products in float32 */
  int count;
  const intaglio_tensor *tensors;
  const intaglio_op *ops;
};

#endif
