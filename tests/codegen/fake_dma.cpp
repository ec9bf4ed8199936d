// AXI DMA (PG021, simple mode) and AXI GPIO around the wrapper of a build, in Verilator: registers
// and memory, nothing else. Reading a register lets some cycles go by.
//
// ports.h says for each port how many bytes its tdata has. Module `whole` has the wrapper inside
// and ports i, o0, o1, ... with o*_tkeep.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vwhole.h"
#include "ports.h"
#include "verilated.h"

namespace {

constexpr uint32_t kMemory = 1 << 22;
constexpr uint64_t kBase = 0x3'1000'0000;  // of the memory, for the DMA: above 32 bits
constexpr uintptr_t kControl = 0x41200000, kDma = 0x40400000, kApart = 0x10000;
constexpr int kCycles = 37;  // that a read of a register takes

template <typename T>
void put(T& port, const uint8_t* bytes, int count) {
  std::memcpy(&port, bytes, count);
}
template <typename T>
void get(const T& port, uint8_t* bytes, int count) {
  std::memcpy(bytes, &port, count);
}

struct Channel {
  uint32_t control = 0, error = 0;
  uint64_t address = 0;
  uint32_t length = 0;
  std::deque<uint8_t> left;  // MM2S: bytes to be sent
  uint32_t got = 0;          // S2MM: bytes received
  bool busy = false, halted = true;
  uint32_t status() const { return (halted ? 1 : 0) | (!halted && !busy ? 2 : 0) | error << 4; }
};

struct System {
  VerilatedContext context;
  std::unique_ptr<Vwhole> top;
  std::vector<uint8_t> memory = std::vector<uint8_t>(kMemory);
  Channel send, receive[SINKS_COUNT];
  uint32_t reset = 0, lost = 0, noise = 12345;
  int64_t beats = 0;
} * s;

bool chance() {
  s->noise ^= s->noise << 13;
  s->noise ^= s->noise >> 17;
  s->noise ^= s->noise << 5;
  return s->noise % 4 != 0;
}

uint8_t* place(const Channel& c, uint32_t offset) {
  const uint64_t at = c.address - kBase + offset;
  return at < kMemory ? &s->memory[at] : nullptr;
}

// A beat of an output into memory; a packet that ends elsewhere than the transfer is an error.
void take(Channel& c, const uint8_t* bytes, uint32_t keep, int count, bool last) {
  for (int k = 0; k < count; ++k) {
    if (!(keep >> k & 1)) continue;
    uint8_t* at = place(c, c.got);
    if (!at || c.got >= c.length) { c.error |= 1; c.busy = false; c.halted = true; return; }
    *at = bytes[k];
    ++c.got;
  }
  if (last) c.busy = false;
}

void tick() {
  Vwhole& t = *s->top;
  t.aclk = 0;
  t.aresetn = !s->reset;
  // A beat of which a byte is missing is no beat.
  const bool offered = t.i_tvalid;
  if (!offered && s->send.left.size() >= SOURCE_BYTES && chance()) {
    uint8_t bytes[SOURCE_BYTES];
    for (uint8_t& byte : bytes) { byte = s->send.left.front(); s->send.left.pop_front(); }
    put(t.i_tdata, bytes, SOURCE_BYTES);
    t.i_tlast = s->send.left.empty();
    t.i_tvalid = 1;
    if (s->lost && --s->lost == 0) t.i_tvalid = 0;  // this beat goes astray
  }
#define READY(k, bytes) t.o##k##_tready = s->receive[k].busy && chance();
  SINKS(READY)
  t.eval();
  const bool accepted = t.i_tvalid && t.i_tready;
#define TAKE(k, bytes)                                                       \
  if (t.o##k##_tvalid && t.o##k##_tready) {                                  \
    uint8_t data[bytes];                                                     \
    get(t.o##k##_tdata, data, bytes);                                        \
    take(s->receive[k], data, static_cast<uint32_t>(t.o##k##_tkeep), bytes,  \
         t.o##k##_tlast);                                                    \
  }
  SINKS(TAKE)
  t.aclk = 1;
  t.eval();
  if (accepted) t.i_tvalid = 0;
  if (s->send.busy && s->send.left.empty() && !t.i_tvalid) s->send.busy = false;
}

// A reset of either channel of a DMA is one of both.
void restart(uint32_t k) {
  s->receive[k] = Channel();
  if (k != 0) return;
  s->send = Channel();
  s->top->i_tvalid = 0;
}

void write_channel(uint32_t k, bool sends, uint32_t offset, uint32_t value) {
  Channel& c = sends ? s->send : s->receive[k];
  if (offset == 0x00) {
    if (value & 4) { restart(k); return; }
    c.control = value;
    c.halted = !(value & 1);
  } else if (offset == 0x18) {
    c.address = (c.address & ~0xffffffffull) | value;
  } else if (offset == 0x1c) {
    c.address = (c.address & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
  } else if (offset == 0x28 && !c.halted && !c.busy && value) {
    c.length = value;
    c.got = 0;
    c.busy = true;
    for (uint32_t k = 0; sends && k < value; ++k) {
      const uint8_t* at = place(c, k);
      if (!at) { c.error |= 4; c.busy = false; c.halted = true; return; }
      c.left.push_back(*at);
    }
  }
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API void fake_open() {
  s = new System;
  s->context.randReset(2);
  s->top = std::make_unique<Vwhole>(&s->context);
  for (int n = 0; n < 8; ++n) tick();
}
API uint8_t* fake_memory() { return s->memory.data(); }
API uint64_t fake_base() { return kBase; }
API void fake_lose(uint32_t beat) { s->lost = beat; }
API void fake_write(void*, uintptr_t address, uint32_t value) {
  if (address == kControl + 8) {
    s->reset = value & 1;
    for (int n = 0; n < 4; ++n) tick();
    return;
  }
  const uint32_t k = (address - kDma) / kApart, offset = (address - kDma) % kApart;
  if (offset >= 0x30) write_channel(k, false, offset - 0x30, value);
  else if (k == 0) write_channel(k, true, offset, value);
}
API uint32_t fake_read(void*, uintptr_t address) {
  for (int n = 0; n < kCycles; ++n) tick();
  if (address == kControl) return s->top->error;
  const uint32_t k = (address - kDma) / kApart, offset = (address - kDma) % kApart;
  const Channel& c = offset >= 0x30 ? s->receive[k] : s->send;
  return offset % 0x30 == 4 ? c.status() : c.control;
}
