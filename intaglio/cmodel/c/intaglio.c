/* Runs a network: intaglio.h says how to call it, docs/arithmetic.md what is computed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixed.h"
#include "intaglio.h"
#include "intaglio_program.h"

/* The codes of a tensor, channels innermost: in int32_t where they fit. */
typedef struct {
  int32_t *narrow;
  int64_t *wide;
} codes;

struct intaglio {
  const intaglio_program *program;
  codes *data;
  int64_t *overflows;
  void *columns; /* of a convolution: what its weights are multiplied with */
  int64_t frame; /* number of the one that stands here, from 0 */
  char error[512];
};

/* Fails to compile where >> of a negative number is no division that rounds down. */
typedef char intaglio_shifts_are_arithmetic[(-3 >> 1) == -2 ? 1 : -1];

/* --- tensors ---------------------------------------------------------------------------------- */

static size_t size_of(const intaglio_tensor *t) {
  return (size_t)t->channels * (size_t)t->height * (size_t)t->width;
}

static size_t place(const intaglio_tensor *t, int channel, int y, int x) {
  return ((size_t)y * (size_t)t->width + (size_t)x) * (size_t)t->channels + (size_t)channel;
}

static int64_t code_at(const codes *data, size_t n) {
  return data->narrow ? data->narrow[n] : data->wide[n];
}

static void set_code(codes *data, size_t n, int64_t code) {
  if (data->narrow) {
    data->narrow[n] = (int32_t)code;
  } else {
    data->wide[n] = code;
  }
}

static int64_t entry(const intaglio_table *table, int channel) {
  return table->values[table->count > 1 ? channel : 0];
}

static int inside(const intaglio_tensor *t, int y, int x) {
  return y >= 0 && y < t->height && x >= 0 && x < t->width;
}

/* --- operations: from tensors `in` to `out` ----------------------------------------------------- */

typedef struct {
  const intaglio_program *program;
  const intaglio_op *op;
  const intaglio_tensor *to;   /* the result */
  const intaglio_tensor *from; /* the first operand */
  codes *out;
  const codes *in;
} job;

/* Row and column of the image that tap (ky, kx) of a window reads for the output at (y, x). */
static int tap_y(const intaglio_window *w, int y, int ky) {
  return y * w->stride[0] + ky * w->dilation[0] - w->padding[0];
}

static int tap_x(const intaglio_window *w, int x, int kx) {
  return x * w->stride[1] + kx * w->dilation[1] - w->padding[2];
}

/* `count` channels from `first` on of what the taps of a window read, in the order (ky, kx, c). */
static void gather_narrow(const job *j, int y, int x, int first, int count, int16_t *columns) {
  const intaglio_window *w = &j->op->window;
  int ky, kx, c;
  for (ky = 0; ky < w->kernel[0]; ++ky) {
    for (kx = 0; kx < w->kernel[1]; ++kx, columns += count) {
      const int iy = tap_y(w, y, ky), ix = tap_x(w, x, kx);
      if (inside(j->from, iy, ix)) {
        const int32_t *row = j->in->narrow + place(j->from, first, iy, ix);
        for (c = 0; c < count; ++c) columns[c] = (int16_t)row[c];
      } else {
        for (c = 0; c < count; ++c) columns[c] = (int16_t)entry(&j->op->outside, first + c);
      }
    }
  }
}

static void gather_wide(const job *j, int y, int x, int first, int count, int64_t *columns) {
  const intaglio_window *w = &j->op->window;
  int ky, kx, c;
  for (ky = 0; ky < w->kernel[0]; ++ky) {
    for (kx = 0; kx < w->kernel[1]; ++kx, columns += count) {
      const int iy = tap_y(w, y, ky), ix = tap_x(w, x, kx);
      const int there = inside(j->from, iy, ix);
      const size_t row = there ? place(j->from, first, iy, ix) : 0;
      for (c = 0; c < count; ++c) {
        columns[c] = there ? code_at(j->in, row + (size_t)c) : entry(&j->op->outside, first + c);
      }
    }
  }
}

/* Exact sums of int16_t products: every partial sum is proved to fit. */
static int32_t dot_narrow(const int16_t *columns, const int16_t *weights, int length) {
  int32_t sum = 0;
  int k;
  for (k = 0; k < length; ++k) sum += (int32_t)columns[k] * (int32_t)weights[k];
  return sum;
}

/* Four rows of weights at once: the columns are read once for all of them. */
static void dot_four(const int16_t *columns, const int16_t *weights, int length, int32_t *sums) {
  const int16_t *w0 = weights, *w1 = w0 + length, *w2 = w1 + length, *w3 = w2 + length;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  int k;
  for (k = 0; k < length; ++k) {
    const int32_t x = columns[k];
    s0 += x * w0[k];
    s1 += x * w1[k];
    s2 += x * w2[k];
    s3 += x * w3[k];
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

static int64_t dot_wide(const int64_t *columns, const int64_t *weights, int length) {
  int64_t sum = 0;
  int k;
  for (k = 0; k < length; ++k) sum += columns[k] * weights[k];
  return sum;
}

/* As dot_wide, clamped after every product; whether it was. */
static int64_t dot_saturating(const int64_t *columns, const int64_t *weights, int length,
                              const intaglio_tensor *t, int64_t *hits) {
  int64_t sum = 0, hit = 0;
  int k;
  for (k = 0; k < length; ++k) {
    const int64_t exact = sum + columns[k] * weights[k];
    sum = fixed_clamp(exact, t->lo, t->hi);
    hit |= sum != exact;
  }
  *hits += hit;
  return sum;
}

/* A sum as a narrow accumulator holds it. */
static int64_t forced(int64_t exact, const intaglio_kernel *kernel, const intaglio_tensor *t,
                      int64_t *hits) {
  if (exact >= t->lo && exact <= t->hi) return exact;
  *hits += 1;
  return kernel->overflow == INTAGLIO_WRAP ? fixed_wrap(exact, kernel->bits, 1)
                                           : fixed_clamp(exact, t->lo, t->hi);
}

static int64_t conv2d(const job *j, void *columns) {
  const intaglio_kernel *kernel = &j->op->kernel;
  const int outs = j->to->channels / kernel->groups, ins = j->from->channels / kernel->groups;
  const int length = j->op->window.kernel[0] * j->op->window.kernel[1] * ins;
  int64_t hits = 0;
  int32_t sums[4];
  int y, x, g, o;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      for (g = 0; g < kernel->groups; ++g) {
        if (kernel->narrow) {
          gather_narrow(j, y, x, g * ins, ins, (int16_t *)columns);
        } else {
          gather_wide(j, y, x, g * ins, ins, (int64_t *)columns);
        }
        for (o = 0; o < outs; ++o) {
          const size_t row = (size_t)(g * outs + o) * (size_t)length;
          int64_t sum;
          if (!kernel->narrow) {
            const int64_t *weights = kernel->wide + row;
            sum = kernel->overflow == INTAGLIO_SATURATE_MAC
                      ? dot_saturating((const int64_t *)columns, weights, length, j->to, &hits)
                      : dot_wide((const int64_t *)columns, weights, length);
          } else if (o / 4 < outs / 4) {
            if (o % 4 == 0) dot_four((const int16_t *)columns, kernel->narrow + row, length, sums);
            sum = sums[o % 4];
          } else {
            sum = dot_narrow((const int16_t *)columns, kernel->narrow + row, length);
          }
          if (kernel->overflow == INTAGLIO_WRAP || kernel->overflow == INTAGLIO_SATURATE_END) {
            sum = forced(sum, kernel, j->to, &hits);
          }
          set_code(j->out, place(j->to, g * outs + o, y, x), sum);
        }
      }
    }
  }
  return hits;
}

static int64_t rescaled(const job *j, int64_t t, int64_t s) {
  const int64_t y = fixed_round_shift(j->op->rounding, t, s);
  return fixed_clamp(y + j->op->offset, j->op->lo, j->op->hi);
}

static void requant(const job *j) {
  const size_t size = size_of(j->to);
  const int channels = j->to->channels;
  size_t n;
  int c;
  for (n = 0; n < size; n += (size_t)channels) {
    for (c = 0; c < channels; ++c) {
      const int64_t x = code_at(j->in, n + (size_t)c);
      const int64_t m = entry(&j->op->m, c), b = entry(&j->op->b, c);
      const int64_t t = j->program->single ? fixed_scaled_single(x, m, b) : x * m + b;
      set_code(j->out, n + (size_t)c, rescaled(j, t, entry(&j->op->s, c)));
    }
  }
}

static void add(const job *j, const codes *other) {
  const size_t size = size_of(j->to);
  const int64_t ma = j->op->m.values[0], mb = j->op->m.values[1];
  const int64_t bias = j->op->b.values[0], s = j->op->s.values[0];
  size_t n;
  for (n = 0; n < size; ++n) {
    const int64_t a = code_at(j->in, n), b = code_at(other, n);
    const int64_t t = j->program->single ? fixed_summed_single(a, b, ma, mb, bias)
                                         : a * ma + b * mb + bias;
    set_code(j->out, n, rescaled(j, t, s));
  }
}

/* By a tensor of the same shape, or one with a single channel, or a single row and column. */
static void multiply(const job *j, const intaglio_tensor *gate, const codes *other) {
  const int64_t zero_a = j->op->outside.values[0], zero_b = j->op->outside.values[1];
  const int rows = gate->height > 1, columns = gate->width > 1, channels = gate->channels > 1;
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      for (c = 0; c < j->to->channels; ++c) {
        const size_t at = place(j->from, c, y, x);
        const size_t by = place(gate, channels * c, rows * y, columns * x);
        set_code(j->out, at, (code_at(j->in, at) - zero_a) * (code_at(other, by) - zero_b));
      }
    }
  }
}

static void pool(const job *j) {
  const intaglio_window *w = &j->op->window;
  const int largest = j->op->kind == INTAGLIO_MAXPOOL2D;
  int y, x, c, ky, kx;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      for (c = 0; c < j->to->channels; ++c) {
        int64_t found = largest ? INT64_MIN : 0;
        for (ky = 0; ky < w->kernel[0]; ++ky) {
          for (kx = 0; kx < w->kernel[1]; ++kx) {
            const int iy = tap_y(w, y, ky), ix = tap_x(w, x, kx);
            const int there = inside(j->from, iy, ix);
            const int64_t code = there     ? code_at(j->in, place(j->from, c, iy, ix))
                                 : largest ? INT64_MIN
                                           : j->op->outside.values[0];
            found = !largest ? found + code : code > found ? code : found;
          }
        }
        set_code(j->out, place(j->to, c, y, x), found);
      }
    }
  }
}

static void upsample(const job *j) {
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    const int iy = (int)((int64_t)y * j->from->height / j->to->height);
    for (x = 0; x < j->to->width; ++x) {
      const int ix = (int)((int64_t)x * j->from->width / j->to->width);
      for (c = 0; c < j->to->channels; ++c) {
        set_code(j->out, place(j->to, c, y, x), code_at(j->in, place(j->from, c, iy, ix)));
      }
    }
  }
}

/* The part that an operand makes of a concatenation, from channel `first` on. */
static void concat(const job *j, int first) {
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      for (c = 0; c < j->from->channels; ++c) {
        set_code(j->out, place(j->to, first + c, y, x), code_at(j->in, place(j->from, c, y, x)));
      }
    }
  }
}

static void pad(const job *j) {
  const int top = j->op->window.padding[0], left = j->op->window.padding[2];
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      const int there = inside(j->from, y - top, x - left);
      for (c = 0; c < j->to->channels; ++c) {
        const int64_t code = there ? code_at(j->in, place(j->from, c, y - top, x - left))
                                   : j->op->outside.values[0];
        set_code(j->out, place(j->to, c, y, x), code);
      }
    }
  }
}

static void lookup(const job *j) {
  const int64_t first = j->from->is_signed ? -(INT64_C(1) << (j->from->bits - 1)) : 0;
  const int64_t entries = INT64_C(1) << j->from->bits;
  const size_t tables = (size_t)(j->op->codes.count / entries); /* one, or one for each channel */
  const size_t size = size_of(j->to);
  size_t n;
  for (n = 0; n < size; ++n) {
    const int64_t *table = j->op->codes.values + (int64_t)(n % tables) * entries;
    set_code(j->out, n, table[code_at(j->in, n) - first]);
  }
}

static void chosen(const job *j) {
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    for (x = 0; x < j->to->width; ++x) {
      for (c = 0; c < j->to->channels; ++c) {
        const int from = (int)j->op->codes.values[c];
        const int64_t code = from < 0 ? j->op->outside.values[0]
                                      : code_at(j->in, place(j->from, from, y, x));
        set_code(j->out, place(j->to, c, y, x), code);
      }
    }
  }
}

static void crop(const job *j) {
  const intaglio_window *w = &j->op->window;
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    const int iy = w->padding[0] + y * w->stride[0];
    for (x = 0; x < j->to->width; ++x) {
      const int ix = w->padding[2] + x * w->stride[1];
      for (c = 0; c < j->to->channels; ++c) {
        set_code(j->out, place(j->to, c, y, x), code_at(j->in, place(j->from, c, iy, ix)));
      }
    }
  }
}

/* Pixels of the tensor with the larger sides are channels (dy, dx, c) of the other one. */
static void rearrange(const job *j) {
  const int deepens = j->op->kind == INTAGLIO_SPACETODEPTH;
  const intaglio_tensor *flat = deepens ? j->from : j->to, *deep = deepens ? j->to : j->from;
  const int bh = j->op->window.kernel[0], bw = j->op->window.kernel[1];
  int y, x, c;
  for (y = 0; y < flat->height; ++y) {
    for (x = 0; x < flat->width; ++x) {
      const int first = (y % bh * bw + x % bw) * flat->channels;
      for (c = 0; c < flat->channels; ++c) {
        const size_t wide = place(flat, c, y, x), thick = place(deep, first + c, y / bh, x / bw);
        set_code(j->out, deepens ? thick : wide, code_at(j->in, deepens ? wide : thick));
      }
    }
  }
}

/* A row or column of the result reads two, at [0] and [1], by the weights at [2] and [3]. */
static void interpolate(const job *j) {
  int y, x, c;
  for (y = 0; y < j->to->height; ++y) {
    const int64_t *row = j->op->m.values + 4 * (size_t)y;
    for (x = 0; x < j->to->width; ++x) {
      const int64_t *column = j->op->b.values + 4 * (size_t)x;
      for (c = 0; c < j->to->channels; ++c) {
        int64_t sum = 0;
        int ky, kx;
        for (ky = 0; ky < 2; ++ky) {
          for (kx = 0; kx < 2; ++kx) {
            const size_t from = place(j->from, c, (int)row[ky], (int)column[kx]);
            sum += row[2 + ky] * column[2 + kx] * code_at(j->in, from);
          }
        }
        set_code(j->out, place(j->to, c, y, x), sum);
      }
    }
  }
}

static void copy(const job *j) {
  const size_t size = size_of(j->to);
  size_t n;
  for (n = 0; n < size; ++n) set_code(j->out, n, code_at(j->in, n));
}

static void compute(intaglio *model, int tensor) {
  const intaglio_program *program = model->program;
  const intaglio_op *op = &program->ops[tensor];
  job j;
  int n, first = 0;
  if (op->kind == INTAGLIO_INPUT) return;
  j.program = program;
  j.op = op;
  j.to = &program->tensors[tensor];
  j.from = &program->tensors[op->inputs[0]];
  j.out = &model->data[tensor];
  j.in = &model->data[op->inputs[0]];
  switch (op->kind) {
    case INTAGLIO_INPUT: break;
    case INTAGLIO_OUTPUT: copy(&j); break;
    case INTAGLIO_CONV2D: model->overflows[tensor] = conv2d(&j, model->columns); break;
    case INTAGLIO_REQUANT: requant(&j); break;
    case INTAGLIO_ADD: add(&j, &model->data[op->inputs[1]]); break;
    case INTAGLIO_MULTIPLY:
      multiply(&j, &program->tensors[op->inputs[1]], &model->data[op->inputs[1]]);
      break;
    case INTAGLIO_MAXPOOL2D:
    case INTAGLIO_SUMPOOL2D: pool(&j); break;
    case INTAGLIO_UPSAMPLE: upsample(&j); break;
    case INTAGLIO_CONCAT:
      for (n = 0; n < op->input_count; ++n) {
        j.from = &program->tensors[op->inputs[n]];
        j.in = &model->data[op->inputs[n]];
        concat(&j, first);
        first += j.from->channels;
      }
      break;
    case INTAGLIO_PAD: pad(&j); break;
    case INTAGLIO_LOOKUP: lookup(&j); break;
    case INTAGLIO_SELECT: chosen(&j); break;
    case INTAGLIO_CROP: crop(&j); break;
    case INTAGLIO_SPACETODEPTH:
    case INTAGLIO_DEPTHTOSPACE: rearrange(&j); break;
    case INTAGLIO_INTERPOLATE: interpolate(&j); break;
  }
}

/* --- what intaglio.h declares ------------------------------------------------------------------- */

/* Bytes of the longest column of all convolutions; at least 1. */
static size_t column_bytes(const intaglio_program *program) {
  size_t most = 1;
  int n;
  for (n = 0; n < program->count; ++n) {
    const intaglio_op *op = &program->ops[n];
    size_t bytes;
    if (op->kind != INTAGLIO_CONV2D) continue;
    bytes = (size_t)op->window.kernel[0] * (size_t)op->window.kernel[1] *
            (size_t)(program->tensors[op->inputs[0]].channels / op->kernel.groups) *
            (op->kernel.narrow ? sizeof(int16_t) : sizeof(int64_t));
    if (bytes > most) most = bytes;
  }
  return most;
}

/* A tensor before the first frame: as near to 0 as its codes go. */
static int make_tensor(codes *data, const intaglio_tensor *t) {
  const size_t size = size_of(t);
  size_t n;
  if (t->lo >= INT32_MIN && t->hi <= INT32_MAX) {
    data->narrow = (int32_t *)malloc(size * sizeof(int32_t));
  } else {
    data->wide = (int64_t *)malloc(size * sizeof(int64_t));
  }
  if (!data->narrow && !data->wide) return -1;
  for (n = 0; n < size; ++n) set_code(data, n, fixed_clamp(0, t->lo, t->hi));
  return 0;
}

intaglio *intaglio_open(const intaglio_program *program) {
  const size_t count = (size_t)program->count;
  intaglio *model = (intaglio *)calloc(1, sizeof(intaglio));
  size_t n;
  if (!model) return NULL;
  model->program = program;
  model->frame = -1;
  model->data = (codes *)calloc(count, sizeof(codes));
  model->overflows = (int64_t *)calloc(count, sizeof(int64_t));
  model->columns = malloc(column_bytes(program));
  if (model->data && model->overflows && model->columns) {
    for (n = 0; n < count && make_tensor(&model->data[n], &program->tensors[n]) == 0; ++n) {
    }
    if (n == count) return model;
  }
  intaglio_close(model);
  return NULL;
}

void intaglio_close(intaglio *model) {
  int n;
  if (!model) return;
  for (n = 0; model->data && n < model->program->count; ++n) {
    free(model->data[n].narrow);
    free(model->data[n].wide);
  }
  free(model->data);
  free(model->overflows);
  free(model->columns);
  free(model);
}

const char *intaglio_error(const intaglio *model) {
  return model ? model->error : "The model must be open, but memory did not suffice.";
}

int intaglio_count(const intaglio *model) { return model->program->count; }

/* The tensor of a number, or NULL and a sentence. */
static const intaglio_tensor *known(intaglio *model, int tensor) {
  model->error[0] = 0;
  if (tensor >= 0 && tensor < model->program->count) return &model->program->tensors[tensor];
  snprintf(model->error, sizeof(model->error), "The tensor must be one of 0 to %d, not %d.",
           model->program->count - 1, tensor);
  return NULL;
}

int intaglio_find(intaglio *model, const char *name) {
  int n;
  model->error[0] = 0;
  for (n = 0; n < model->program->count; ++n) {
    if (strcmp(model->program->tensors[n].name, name) == 0) return n;
  }
  snprintf(model->error, sizeof(model->error),
           "The tensor must be one of the network's, as %.99s, not %.99s.",
           model->program->tensors[model->program->count - 1].name, name);
  return -1;
}

const intaglio_tensor *intaglio_about(intaglio *model, int tensor) { return known(model, tensor); }

/* Whether a tensor has this place; else a sentence. */
static int has_place(intaglio *model, const intaglio_tensor *t, int channel, int y, int x) {
  if (channel >= 0 && channel < t->channels && inside(t, y, x)) return 1;
  snprintf(model->error, sizeof(model->error),
           "The place in %.99s must be below channel %d, y %d, x %d, not channel %d, y %d, x %d.",
           t->name, t->channels, t->height, t->width, channel, y, x);
  return 0;
}

/* Whether a tensor may hold this code; else a sentence. */
static int has_code(intaglio *model, const intaglio_tensor *t, int64_t code) {
  if (code >= t->lo && code <= t->hi) return 1;
  snprintf(model->error, sizeof(model->error),
           "Codes of %.99s must lie in [%" PRId64 ", %" PRId64 "], not be %" PRId64 ".", t->name,
           t->lo, t->hi, code);
  return 0;
}

int intaglio_forward(intaglio *model) {
  int n;
  model->error[0] = 0;
  for (n = 0; n < model->program->count; ++n) compute(model, n);
  model->frame += 1;
  return 0;
}

int intaglio_compute(intaglio *model, int tensor) {
  const intaglio_tensor *t = known(model, tensor);
  if (!t) return -1;
  if (model->program->ops[tensor].kind == INTAGLIO_INPUT) {
    snprintf(model->error, sizeof(model->error),
             "%.99s must be written, not computed: it is the input.", t->name);
    return -1;
  }
  compute(model, tensor);
  return 0;
}

static int input_of(const intaglio_program *program) {
  int n = 0;
  while (program->ops[n].kind != INTAGLIO_INPUT) ++n;
  return n;
}

int intaglio_run(intaglio *model, const uint8_t *frame) {
  const int tensor = input_of(model->program);
  const intaglio_tensor *t = known(model, tensor);
  const size_t plane = (size_t)t->height * (size_t)t->width, size = size_of(t);
  size_t n;
  if (t->is_signed || t->bits > 8) {
    snprintf(model->error, sizeof(model->error),
             "%.99s must be unsigned and of up to 8 bits for uint8 codes, not %c%d; use"
             " intaglio_write() and intaglio_forward().",
             t->name, t->is_signed ? 'i' : 'u', t->bits);
    return -1;
  }
  for (n = 0; n < size; ++n) {
    if (!has_code(model, t, frame[n])) return -1;
  }
  for (n = 0; n < size; ++n) {
    set_code(&model->data[tensor], n % plane * (size_t)t->channels + n / plane, frame[n]);
  }
  return intaglio_forward(model);
}

int intaglio_read(intaglio *model, int tensor, int64_t *values) {
  const intaglio_tensor *t = known(model, tensor);
  size_t plane, size, n;
  if (!t) return -1;
  plane = (size_t)t->height * (size_t)t->width;
  size = size_of(t);
  for (n = 0; n < size; ++n) {
    values[n] = code_at(&model->data[tensor], n % plane * (size_t)t->channels + n / plane);
  }
  return 0;
}

int intaglio_write(intaglio *model, int tensor, const int64_t *values) {
  const intaglio_tensor *t = known(model, tensor);
  size_t plane, size, n;
  if (!t) return -1;
  plane = (size_t)t->height * (size_t)t->width;
  size = size_of(t);
  for (n = 0; n < size; ++n) {
    if (!has_code(model, t, values[n])) return -1;
  }
  for (n = 0; n < size; ++n) {
    set_code(&model->data[tensor], n % plane * (size_t)t->channels + n / plane, values[n]);
  }
  return 0;
}

int64_t intaglio_get(intaglio *model, int tensor, int channel, int y, int x) {
  const intaglio_tensor *t = known(model, tensor);
  if (!t || !has_place(model, t, channel, y, x)) return INT64_MIN;
  return code_at(&model->data[tensor], place(t, channel, y, x));
}

int intaglio_put(intaglio *model, int tensor, int channel, int y, int x, int64_t code) {
  const intaglio_tensor *t = known(model, tensor);
  if (!t || !has_place(model, t, channel, y, x) || !has_code(model, t, code)) return -1;
  set_code(&model->data[tensor], place(t, channel, y, x), code);
  return 0;
}

int intaglio_check(intaglio *model, int tensor, int channel, int y, int x, int64_t got) {
  const intaglio_tensor *t = known(model, tensor);
  int64_t want;
  char code[24];
  if (!t || !has_place(model, t, channel, y, x)) return 1;
  want = code_at(&model->data[tensor], place(t, channel, y, x));
  if (got == want) return 0;
  snprintf(code, sizeof(code), "%" PRId64, got);
  snprintf(model->error, sizeof(model->error),
           "%.99s%s%.99s%s: frame %" PRId64 ", channel %d, y %d, x %d: got %s, expected %" PRId64,
           t->name, *t->origin ? " (from " : "", t->origin, *t->origin ? ")" : "",
           model->frame < 0 ? 0 : model->frame, channel, y, x,
           got == INT64_MIN ? "undefined bits" : code, want);
  return 1;
}

int64_t intaglio_overflows(intaglio *model, int tensor) {
  return known(model, tensor) ? model->overflows[tensor] : -1;
}
