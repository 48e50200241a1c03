// Bounds of a page against a plain loop, for head dims around the vector width.
#include "cache/key_bounds.h"

#include <algorithm>

#include "kernels/quantize/quantize.h"
#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestBounds(int d, int column, std::mt19937* generator) {
  const int d_padded = PaddedBytes(d);
  std::uniform_int_distribution<int> any(-127, 127);
  std::vector<uint8_t> page(size_t(d_padded) * kPageRows, uint8_t{128}), block(KeyBoundBytes(d), uint8_t{7});
  std::vector<int> most(d, -128), least(d, 128);
  for (int row = 0; row < kPageRows; ++row) {
    std::vector<int8_t> key(d);
    for (int c = 0; c < d; ++c) {
      key[c] = int8_t(any(*generator));
      most[c] = std::max(most[c], int(key[c]));
      least[c] = std::min(least[c], int(key[c]));
    }
    PackKey(key.data(), d, row, page.data());
  }
  WriteKeyBounds(page.data(), d, column, block.data());
  for (int c = 0; c < 2 * d_padded; ++c) {
    for (int page_index = 0; page_index < kBoundPages; ++page_index) {
      const int got = block[size_t(c / 4 * kBoundPages + page_index) * 4 + c % 4];
      const int channel = c % d_padded;
      const int bound = channel >= d ? 0 : (c < d_padded ? most[channel] : least[channel]);
      CHECK(got == (page_index == column ? bound + 128 : 7));
    }
  }
}

}  // namespace

int main() {
  std::mt19937 generator(Seed());
  for (int d : {1, 3, 4, 5, 20, 63, 64, 65, 128})
    for (int column : {0, 1, 63}) TestBounds(d, column, &generator);
  return Finish();
}
