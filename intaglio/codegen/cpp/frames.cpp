// Plays whole frames into the design and keeps what it delivers. Called through ctypes.
//
// ports.h, written beside this file, says for each port how many 32-bit words its tdata has and
// how many beats make a frame. Module `whole` has the design inside and ports i, o0, o1, ...

#include <cstddef>
#include <cstdint>
#include <memory>

#include "Vwhole.h"
#include "ports.h"
#include "verilated.h"

namespace {

constexpr int kResetCycles = 8;

void put(CData& port, const uint32_t* words) { port = static_cast<CData>(words[0]); }
void put(SData& port, const uint32_t* words) { port = static_cast<SData>(words[0]); }
void put(IData& port, const uint32_t* words) { port = words[0]; }
void put(QData& port, const uint32_t* words) {
  port = words[0] | static_cast<QData>(words[1]) << 32;
}
template <std::size_t N>
void put(VlWide<N>& port, const uint32_t* words) {
  for (std::size_t k = 0; k < N; ++k) port[k] = words[k];
}

void get(CData port, uint32_t* words) { words[0] = port; }
void get(SData port, uint32_t* words) { words[0] = port; }
void get(IData port, uint32_t* words) { words[0] = port; }
void get(QData port, uint32_t* words) {
  words[0] = static_cast<uint32_t>(port);
  words[1] = static_cast<uint32_t>(port >> 32);
}
template <std::size_t N>
void get(const VlWide<N>& port, uint32_t* words) {
  for (std::size_t k = 0; k < N; ++k) words[k] = port[k];
}

// Random pauses, as in bench_parts.v: about one cycle in eight begins one, of up to 3 or 63 cycles.
class Pauses {
 public:
  void seed(uint64_t value) { state_ = value; }
  bool next() {
    if (state_ == 0) return false;  // no seed, no pauses
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    const uint64_t drawn = state_ >> 32;
    if (left_ != 0) {
      --left_;
    } else if (drawn % 8 == 0) {
      left_ = drawn & 8 ? drawn >> 4 & 63 : drawn >> 4 & 3;
    }
    return left_ != 0;
  }

 private:
  uint64_t state_ = 0;
  uint64_t left_ = 0;
};

// Splitmix64: one seed gives each port its own; never 0 but for "no pauses".
uint64_t port_seed(uint64_t seed, uint64_t port) {
  if (seed == 0) return 0;
  uint64_t z = seed + (port + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) | 1;
}

struct Sink {
  int64_t words, beats, frames;
  uint32_t* data;    // frames * beats * words
  int64_t* firsts;   // cycle of each frame's first beat
  int64_t* lasts;    // and of its last
  Pauses pauses;
  int64_t frame = 0, beat = 0;
  int64_t wrong_tlast = 0;

  bool full() const { return frame == frames; }
  uint32_t* place() { return data + (frame * beats + beat) * words; }
  void taken(bool tlast, int64_t cycle) {
    if (beat == 0) firsts[frame] = cycle;
    wrong_tlast += tlast != (beat == beats - 1);
    if (++beat < beats) return;
    lasts[frame++] = cycle;
    beat = 0;
  }
};

}  // namespace

// stimulus  total * SOURCE_WORDS words.
// lasts     tlast of each of these beats; null: 1 at the end of every frame.
// seed      of random pauses on every port and of registers without a reset value; 0: no pauses.
// patience  cycles without any beat after which the design counts as hung.
// data      for each output frames * beats * words words.
// times     rows of `frames` cycles: the first of every SOURCE_BEATS beats of the input taken; then,
//           for each output in turn, first beat delivered and last beat delivered. The first clock
//           edge without reset is cycle 0; the first beat is offered in cycle 1.
// wrong     for each output, the beats whose tlast was wrong.
// error     whether the design says that a packet of the input was no whole frame.
// Returns the cycles run, or -1 after a hang.
extern "C" __attribute__((visibility("default"))) int64_t intaglio_frames(
    const uint32_t* stimulus, int64_t total, const uint8_t* lasts, int64_t frames, uint64_t seed,
    int64_t patience, uint32_t* const* data, int64_t* times, int64_t* wrong, int64_t* error) {
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(static_cast<int>(seed % 0x7fffffff + 1));
  const auto top = std::make_unique<Vwhole>(&context);
  Sink sinks[] = {
#define SINK(k, words, beats) \
  {words, beats, frames, data[k], times + (1 + 2 * k) * frames, times + (2 + 2 * k) * frames, {}},
      SINKS(SINK)};
  Pauses pauses;
  pauses.seed(port_seed(seed, 0));
  uint64_t number = 0;
  for (Sink& sink : sinks) sink.pauses.seed(port_seed(seed, ++number));

  top->rst = 1;
  top->i_tvalid = 0;
  top->i_tlast = 0;
#define READY(k, words, beats) top->o##k##_tready = 1;
  SINKS(READY)
  for (int n = 0; n < kResetCycles; ++n) {
    top->clk = 0;
    top->eval();
    top->clk = 1;
    top->eval();
  }
  top->rst = 0;

  int64_t sent = 0, idle = 0, cycle = 0;
  bool full = frames == 0;
  for (; !full; ++cycle) {
    top->clk = 0;
    top->eval();
    const bool accepted = top->i_tvalid && top->i_tready;
    bool moved = accepted;
#define TAKE(k, words, beats)                                \
  if (top->o##k##_tvalid && top->o##k##_tready) {            \
    moved = true;                                            \
    if (!sinks[k].full()) {                                  \
      get(top->o##k##_tdata, sinks[k].place());              \
      sinks[k].taken(top->o##k##_tlast, cycle);              \
    }                                                        \
  }
    SINKS(TAKE)
    top->clk = 1;
    top->eval();  // with the inputs of this cycle; those of the next follow the edge
    if (accepted) {
      if (sent % SOURCE_BEATS == 0 && sent < frames * SOURCE_BEATS) {
        times[sent / SOURCE_BEATS] = cycle;
      }
      ++sent;
    }
    const bool pause = pauses.next();
    if (accepted || !top->i_tvalid) {
      top->i_tvalid = sent < total && !pause;
      if (top->i_tvalid) {
        put(top->i_tdata, stimulus + sent * SOURCE_WORDS);
        top->i_tlast = lasts ? lasts[sent] : sent % SOURCE_BEATS == SOURCE_BEATS - 1;
      }
    }
#define NEXT_READY(k, words, beats) top->o##k##_tready = !sinks[k].pauses.next();
    SINKS(NEXT_READY)
    idle = moved ? 0 : idle + 1;
    if (idle > patience) break;
    full = true;
    for (const Sink& sink : sinks) full = full && sink.full();
  }
  *error = top->error;
  top->final();
#define WRONG(k, words, beats) wrong[k] = sinks[k].wrong_tlast;
  SINKS(WRONG)
  return full ? cycle : -1;
}
