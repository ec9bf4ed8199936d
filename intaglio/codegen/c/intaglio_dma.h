/* A network of intaglio behind AXI DMA (Xilinx PG021, simple mode), one frame at a time.
 *
 * C99, no operating system: registers are reached by two functions, buffers are memory that the
 * DMA reaches too, under `address`. On Linux map both (/dev/mem or UIO; udmabuf), without an
 * operating system take intaglio_memory_bus and flush the caches around intaglio_dma_frame.
 *
 * NAME_net.h, beside this file, has the ports of one network.
 */
#ifndef INTAGLIO_DMA_H
#define INTAGLIO_DMA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INTAGLIO_OUTPUTS 64 /* at most */

/* One stream: `channels` x `height` x `width` codes of `bits` each, `lanes` a beat of `bytes`. */
typedef struct {
  const char *name;
  uint32_t channels, height, width, lanes, bits, is_signed, bytes;
} intaglio_port;

typedef struct {
  const intaglio_port *input, *outputs;
  uint32_t output_count;
} intaglio_net;

/* How 32-bit registers are reached. */
typedef struct {
  uint32_t (*read)(void *context, uintptr_t address);
  void (*write)(void *context, uintptr_t address, uint32_t value);
  void *context;
} intaglio_bus;

/* Memory of the processor that is `address` for the DMA. */
typedef struct {
  uint8_t *data;
  uint64_t address;
} intaglio_buffer;

typedef struct {
  const intaglio_net *net;
  intaglio_bus bus;
  uintptr_t dma[INTAGLIO_OUTPUTS]; /* registers of the DMA of each output; the first has the input */
  uintptr_t control;               /* registers of the AXI GPIO: frame_error in, reset out */
  intaglio_buffer input, outputs[INTAGLIO_OUTPUTS]; /* of intaglio_bytes each */
  uint32_t patience;               /* how often a status is read before a frame counts as lost */
} intaglio_dma;

enum {
  INTAGLIO_OK = 0,
  INTAGLIO_SILENT = -1,      /* a transfer did not end within `patience` */
  INTAGLIO_BUS = -2,         /* a DMA reports an error; intaglio_dma_reset helps */
  INTAGLIO_FRAME_ERROR = -3, /* a packet of the input was no whole frame */
  INTAGLIO_RANGE = -4        /* a code is not of the input's type */
};

/* Registers that are memory. */
extern const intaglio_bus intaglio_memory_bus;

/* Bytes of a frame on a stream. */
size_t intaglio_bytes(const intaglio_port *port);

/* Codes (channel, y, x) to a frame's bytes and back. */
int intaglio_pack(const intaglio_port *port, const int32_t *codes, uint8_t *bytes);
void intaglio_unpack(const intaglio_port *port, const uint8_t *bytes, int32_t *codes);

/* Reset the network and every DMA; first of all, and after an error. */
int intaglio_dma_reset(const intaglio_dma *dma);

/* A frame through the network: codes in, codes of every output out. */
int intaglio_dma_frame(const intaglio_dma *dma, const int32_t *codes, int32_t *const *maps);

#ifdef __cplusplus
}
#endif

#endif
