// A board's SPI line: transactions at standard input, what the board answers at standard output.
//
// The arguments are the bytes of a transaction and the clocks of half a bit. Ends when standard
// input does.

#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr int kPause = 12;  // clocks between two transactions
constexpr int kAwake = 4000;  // clocks before the first: the reset after power-on is over

// All of a transaction, or nothing at the end of standard input.
bool take(std::vector<unsigned char> &bytes) {
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t count = read(0, bytes.data() + have, bytes.size() - have);
    if (count <= 0) return false;
    have += count;
  }
  return true;
}

void clocks(Vboard &board, int count) {
  for (int k = 0; k < count; ++k) {
    board.clk = 0;
    board.eval();
    board.clk = 1;
    board.eval();
  }
}

// Mode 0: data change while the clock is 0, and are read where it rises.
unsigned char swap(Vboard &board, unsigned char byte, int half) {
  unsigned char got = 0;
  for (int bit = 7; bit >= 0; --bit) {
    board.copi = byte >> bit & 1;
    clocks(board, half);
    got = got << 1 | board.cipo;
    board.sck = 1;
    clocks(board, half);
    board.sck = 0;
  }
  return got;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const int out = dup(1);  // what the model prints must not be taken for bytes of the line
  dup2(2, 1);
  VerilatedContext context;
  Vboard board{&context};
  board.cs_n = 1;
  board.sck = 0;
  clocks(board, kAwake);
  std::vector<unsigned char> bytes(std::atoi(argv[1]));
  const int half = std::atoi(argv[2]);
  while (take(bytes)) {
    board.cs_n = 0;
    for (unsigned char &byte : bytes) byte = swap(board, byte, half);
    clocks(board, half);
    board.cs_n = 1;
    clocks(board, kPause);
    if (write(out, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return 3;
  }
  board.final();
  return 0;
}
