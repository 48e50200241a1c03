// What modes keep beside full pages: how many there are after growing, rewinding and another mode, and that their bytes
// are counted.
#include "page_extras.h"

#include <cstring>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestGrowsAndShrinks() {
  PageExtras extras;
  extras.Bind(2, 3);
  CHECK(extras.Grow(Mode::kInt8, 128, 0, 2) == 0 && extras.bytes() == 2 * 3 * 128);
  uint8_t* kept = extras.page(0, 2, 1);
  std::memset(kept, 7, 128);
  CHECK(kept == extras.page(0, 0, 1) + 2 * 128);
  CHECK(extras.Grow(Mode::kInt8, 128, 0, 5) == 2 && extras.bytes() == 5 * 3 * 128);
  CHECK(extras.page(0, 2, 1) == kept && kept[127] == 7);  // pages never move
  CHECK(extras.Grow(Mode::kInt8, 128, 0, 4) == 5);        // never shrinks by itself
  CHECK(extras.Grow(Mode::kInt8, 128, 1, 1) == 0 && extras.bytes() == 6 * 3 * 128);
  extras.Truncate(0, 3);
  CHECK(extras.bytes() == 4 * 3 * 128);
  extras.Truncate(0, 9);
  CHECK(extras.bytes() == 4 * 3 * 128);
  CHECK(extras.Grow(Mode::kInt8, 128, 0, 5) == 3);
}

void TestAnotherModeBeginsAnew() {
  PageExtras extras;
  extras.Bind(2, 1);
  extras.Grow(Mode::kInt8, 128, 0, 2);
  extras.Grow(Mode::kInt8, 128, 1, 2);
  CHECK(extras.Grow(Mode::kNpuFull, 256, 1, 3) == 0 && extras.bytes() == 3 * 256);
  CHECK(extras.Grow(Mode::kNpuFull, 256, 0, 1) == 0 && extras.bytes() == 4 * 256);
  extras.Clear();
  CHECK(extras.bytes() == 0 && extras.Grow(Mode::kNpuFull, 256, 0, 1) == 0);
}

}  // namespace

int main() {
  TestGrowsAndShrinks();
  TestAnotherModeBeginsAnew();
  return Finish();
}
