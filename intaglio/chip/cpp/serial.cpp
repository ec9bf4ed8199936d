// A board's serial line: commands at standard input, bytes of the line at standard output.
//
// A command is two bytes: 0 and a byte to send to the board, or 1 and any byte for a break. The
// argument is the clocks of a bit. Ends when standard input does.

#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr int kBreakBits = 1000;  // longer than the reset after power-on

// Takes what waits at standard input; false at its end.
bool refill(std::deque<unsigned char> &queue) {
  pollfd input{0, POLLIN, 0};
  while (poll(&input, 1, 0) > 0) {
    unsigned char bytes[4096];
    const ssize_t count = read(0, bytes, sizeof bytes);
    if (count <= 0) return false;
    queue.insert(queue.end(), bytes, bytes + count);
  }
  return true;
}

// The line to the board: one bit after the other.
class Sender {
 public:
  explicit Sender(int cycles) : cycles_(cycles) {}

  // The line in this clock; false in `open` when standard input has ended.
  bool level(bool &open) {
    if (wait_ == 0 && left_ == 0) {
      if (queue_.size() < 2) open = refill(queue_);
      if (queue_.size() >= 2) {
        const bool pause = queue_[0] != 0;
        bits_ = pause ? 0 : (queue_[1] << 1) | 0x200;
        left_ = pause ? kBreakBits : 10;
        queue_.erase(queue_.begin(), queue_.begin() + 2);
        gap_ = pause ? 4 : 0;
      } else {
        wait_ = cycles_;
      }
    }
    if (left_ == 0) {
      if (wait_ > 0) --wait_;
      return true;
    }
    const bool now = bits_ & 1;
    if (++at_ == cycles_) {
      at_ = 0;
      bits_ >>= 1;
      if (--left_ == 0) wait_ = gap_ * cycles_;
    }
    return now;
  }

 private:
  const int cycles_;
  std::deque<unsigned char> queue_;
  unsigned long bits_ = 0;
  int left_ = 0, at_ = 0, gap_ = 0;
  int wait_ = 0;
};

// The line from the board, sampled in the middle of each bit.
class Receiver {
 public:
  Receiver(int cycles, int out) : cycles_(cycles), out_(out) {}

  void sample(bool line) {
    if (left_ == 0) {
      if (line) return;
      left_ = 10;
      wait_ = cycles_ / 2;
    }
    if (wait_-- > 0) return;
    wait_ = cycles_ - 1;
    bits_ = (bits_ >> 1) | (line ? 0x200 : 0);
    if (--left_ == 0) {
      const unsigned char byte = (bits_ >> 1) & 0xff;
      // No stop bit: the byte is not the board's.
      if (!(bits_ & 0x200) || write(out_, &byte, 1) != 1) std::exit(3);
      bits_ = 0;
    }
  }

 private:
  const int cycles_, out_;
  unsigned bits_ = 0;
  int left_ = 0, wait_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  const int out = dup(1);  // what the model prints must not be taken for bytes of the line
  dup2(2, 1);
  VerilatedContext context;
  Vboard board{&context};
  Sender sender(std::atoi(argv[1]));
  Receiver receiver(std::atoi(argv[1]), out);
  bool open = true;
  while (open) {
    board.rx = sender.level(open);
    board.clk = 0;
    board.eval();
    board.clk = 1;
    board.eval();
    receiver.sample(board.tx);
  }
  board.final();
  return 0;
}
