// The transposition of bits that turns the pages of each row into the rows of each page.
#include "attention/page_skipping.h"

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestTranspose(std::mt19937_64* generator) {
  uint64_t matrix[64], transposed[64];
  for (int i = 0; i < 64; ++i) transposed[i] = matrix[i] = (*generator)();
  TransposeBits(transposed);
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 64; ++j) CHECK((matrix[i] >> j & 1) == (transposed[j] >> i & 1));
}

}  // namespace

int main() {
  std::mt19937_64 generator(Seed());
  TestTranspose(&generator);
  return Finish();
}
