#include "intaglio_dma.h"

#include <string.h>

/* PG021, table "AXI DMA Register Address Map"; AXI GPIO: PG144. */
enum {
  MM2S = 0x00, S2MM = 0x30,                             /* the two channels */
  CONTROL = 0x00, STATUS = 0x04, ADDRESS = 0x18, ADDRESS_MSB = 0x1c, LENGTH = 0x28,
  RUN = 1u << 0, RESET = 1u << 2,                       /* of CONTROL */
  HALTED = 1u << 0, IDLE = 1u << 1, ERRORS = 0x70,      /* of STATUS: internal, slave, decode */
  GPIO_DATA = 0x0, GPIO2_DATA = 0x8
};

static uint32_t memory_read(void *context, uintptr_t address) {
  (void)context;
  return *(volatile uint32_t *)address;
}

static void memory_write(void *context, uintptr_t address, uint32_t value) {
  (void)context;
#ifdef __GNUC__
  __sync_synchronize(); /* buffers are written before a transfer begins */
#endif
  *(volatile uint32_t *)address = value;
}

const intaglio_bus intaglio_memory_bus = {memory_read, memory_write, NULL};

static uint32_t get(const intaglio_dma *dma, uintptr_t address) {
  return dma->bus.read(dma->bus.context, address);
}

static void put(const intaglio_dma *dma, uintptr_t address, uint32_t value) {
  dma->bus.write(dma->bus.context, address, value);
}

static uint32_t beats_per_pixel(const intaglio_port *port) {
  return (port->channels + port->lanes - 1) / port->lanes;
}

size_t intaglio_bytes(const intaglio_port *port) {
  return (size_t)port->height * port->width * beats_per_pixel(port) * port->bytes;
}

/* Where the code of a channel of a pixel is: the first bit, counted from the frame's first byte. */
static size_t place(const intaglio_port *port, size_t pixel, uint32_t channel) {
  const size_t beat = pixel * beats_per_pixel(port) + channel / port->lanes;
  return beat * port->bytes * 8 + (size_t)(channel % port->lanes) * port->bits;
}

/* Whether every code is bytes of its own. */
static int whole_bytes(const intaglio_port *port) { return port->bits % 8 == 0; }

int intaglio_pack(const intaglio_port *port, const int32_t *codes, uint8_t *bytes) {
  const size_t pixels = (size_t)port->height * port->width;
  const uint32_t step = whole_bytes(port) ? 8 : 1, mask = (1u << step) - 1;
  const int64_t low = port->is_signed ? -((int64_t)1 << (port->bits - 1)) : 0;
  const int64_t high = low + ((int64_t)1 << port->bits) - 1;
  memset(bytes, 0, intaglio_bytes(port));
  for (uint32_t c = 0; c < port->channels; ++c)
    for (size_t p = 0; p < pixels; ++p) {
      const int32_t code = codes[c * pixels + p];
      const size_t at = place(port, p, c);
      if (code < low || code > high) return INTAGLIO_RANGE;
      for (uint32_t b = 0; b < port->bits; b += step)
        bytes[(at + b) / 8] |= (uint8_t)(((uint32_t)code >> b & mask) << (at + b) % 8);
    }
  return INTAGLIO_OK;
}

void intaglio_unpack(const intaglio_port *port, const uint8_t *bytes, int32_t *codes) {
  const size_t pixels = (size_t)port->height * port->width;
  const uint32_t step = whole_bytes(port) ? 8 : 1, mask = (1u << step) - 1;
  for (uint32_t c = 0; c < port->channels; ++c)
    for (size_t p = 0; p < pixels; ++p) {
      const size_t at = place(port, p, c);
      uint32_t raw = 0;
      for (uint32_t b = 0; b < port->bits; b += step)
        raw |= (uint32_t)(bytes[(at + b) / 8] >> (at + b) % 8 & mask) << b;
      if (port->is_signed && raw >> (port->bits - 1) & 1 && port->bits < 32)
        raw |= ~(((uint32_t)1 << port->bits) - 1);
      codes[c * pixels + p] = (int32_t)raw;
    }
}

/* Wait until a status has all bits of `wanted`. */
static int until(const intaglio_dma *dma, uintptr_t channel, uint32_t wanted) {
  for (uint32_t n = 0; n < dma->patience; ++n) {
    const uint32_t status = get(dma, channel + STATUS);
    if (status & ERRORS) return INTAGLIO_BUS;
    if ((status & wanted) == wanted) return INTAGLIO_OK;
  }
  return INTAGLIO_SILENT;
}

/* A transfer begins with its length. */
static void start(const intaglio_dma *dma, uintptr_t channel, uint64_t address, size_t bytes) {
  put(dma, channel + CONTROL, RUN);
  put(dma, channel + ADDRESS, (uint32_t)address);
  put(dma, channel + ADDRESS_MSB, (uint32_t)(address >> 32));
  put(dma, channel + LENGTH, (uint32_t)bytes);
}

int intaglio_dma_reset(const intaglio_dma *dma) {
  put(dma, dma->control + GPIO2_DATA, 1);
  for (uint32_t k = 0; k < dma->net->output_count; ++k) {
    uint32_t n = 0; /* a reset of either channel resets both */
    put(dma, dma->dma[k] + S2MM + CONTROL, RESET);
    while (get(dma, dma->dma[k] + S2MM + CONTROL) & RESET)
      if (++n >= dma->patience) return INTAGLIO_SILENT;
  }
  put(dma, dma->control + GPIO2_DATA, 0);
  return INTAGLIO_OK;
}

int intaglio_dma_frame(const intaglio_dma *dma, const int32_t *codes, int32_t *const *maps) {
  const intaglio_net *net = dma->net;
  int wrong = intaglio_pack(net->input, codes, dma->input.data);
  if (wrong) return wrong;
  for (uint32_t k = 0; k < net->output_count; ++k)
    start(dma, dma->dma[k] + S2MM, dma->outputs[k].address, intaglio_bytes(&net->outputs[k]));
  start(dma, dma->dma[0] + MM2S, dma->input.address, intaglio_bytes(net->input));
  wrong = until(dma, dma->dma[0] + MM2S, IDLE);
  for (uint32_t k = 0; k < net->output_count && !wrong; ++k) {
    wrong = until(dma, dma->dma[k] + S2MM, IDLE);
    if (!wrong) intaglio_unpack(&net->outputs[k], dma->outputs[k].data, maps[k]);
  }
  if (!wrong && get(dma, dma->control + GPIO_DATA) & 1) wrong = INTAGLIO_FRAME_ERROR;
  return wrong;
}
