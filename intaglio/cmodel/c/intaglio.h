/* The golden model of an integer network, for benches: a frame in, every tensor out, on every bit
 * the integers of intaglio's simulator.
 *
 * Plain C99 that a C++ compiler takes too; no other library. A network is a constant, which
 * NAME.h declares as NAME_program; any number of them can be linked with one intaglio.c.
 *
 * Codes of a tensor are (channel, y, x), x fastest, as in the .npy files of `intaglio trace`. A call
 * that can fail returns -1 (a pointer: NULL) and leaves a sentence in intaglio_error(). One model is
 * for one thread at a time; several may run the same program.
 */
#ifndef INTAGLIO_H
#define INTAGLIO_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct intaglio_program intaglio_program; /* a network */
typedef struct intaglio intaglio;                 /* a model: the tensors of one frame */

/* A tensor. Every code of it lies in [lo, hi], which its type holds. */
typedef struct {
  const char *name;   /* the Program's */
  const char *origin; /* the torch module that it comes from, or "" */
  const char *op;     /* the operation that makes it */
  int channels, height, width;
  int bits, is_signed;
  int64_t lo, hi;
} intaglio_tensor;

/* Opening. NULL where memory does not suffice. */
intaglio *intaglio_open(const intaglio_program *program);
void intaglio_close(intaglio *model);
/* What the last call refused or intaglio_check() found, or "". */
const char *intaglio_error(const intaglio *model);

/* Tensors are numbered in the Program's order. */
int intaglio_count(const intaglio *model);
int intaglio_find(intaglio *model, const char *name);
const intaglio_tensor *intaglio_about(intaglio *model, int tensor);

/* A frame of uint8 codes, then every tensor. Other inputs: intaglio_write(), intaglio_forward(). */
int intaglio_run(intaglio *model, const uint8_t *frame);
/* Every tensor, from the input as it stands. */
int intaglio_forward(intaglio *model);
/* One tensor, from those that its operation reads as they stand: a layer by itself. */
int intaglio_compute(intaglio *model, int tensor);

/* All codes of a tensor, or one. Codes outside [lo, hi] are refused. */
int intaglio_read(intaglio *model, int tensor, int64_t *codes);
int intaglio_write(intaglio *model, int tensor, const int64_t *codes);
/* INT64_MIN, which is no code, where there is no such place. */
int64_t intaglio_get(intaglio *model, int tensor, int channel, int y, int x);
int intaglio_put(intaglio *model, int tensor, int channel, int y, int x, int64_t code);

/* 0 where the code is the model's; else 1, and intaglio_error() says where and what it should be.
 * INT64_MIN stands for undefined bits. */
int intaglio_check(intaglio *model, int tensor, int channel, int y, int x, int64_t got);
/* Values of the last run that a narrow accumulator did not hold; 0 for any other tensor. */
int64_t intaglio_overflows(intaglio *model, int tensor);

#ifdef __cplusplus
}
#endif
#endif
