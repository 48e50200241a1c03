// What modes derive from full pages: how much there is after growing, rewinding and another mode, and that its bytes
// are counted.
#include "cache/derived_pages.h"

#include <cstring>

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

constexpr ModeTraits kOneMode{}, kOtherMode{};

void TestGrowsAndShrinks() {
  DerivedPages derived_pages;
  derived_pages.Bind(2, 3);
  CHECK(derived_pages.Grow(kOneMode, 128, 0, 2) == 0 && derived_pages.bytes() == 2 * 3 * 128);
  uint8_t* selected = derived_pages.page(0, 2, 1);
  std::memset(selected, 7, 128);
  CHECK(selected == derived_pages.page(0, 0, 1) + 2 * 128);
  CHECK(derived_pages.Grow(kOneMode, 128, 0, 5) == 2 && derived_pages.bytes() == 5 * 3 * 128);
  CHECK(derived_pages.page(0, 2, 1) == selected && selected[127] == 7);  // pages never move
  CHECK(derived_pages.Grow(kOneMode, 128, 0, 4) == 5);                   // never shrinks by itself
  CHECK(derived_pages.Grow(kOneMode, 128, 1, 1) == 0 && derived_pages.bytes() == 6 * 3 * 128);
  derived_pages.Truncate(0, 3);
  CHECK(derived_pages.bytes() == 4 * 3 * 128);
  derived_pages.Truncate(0, 9);
  CHECK(derived_pages.bytes() == 4 * 3 * 128);
  CHECK(derived_pages.Grow(kOneMode, 128, 0, 5) == 3);
}

void TestAnotherModeBeginsAnew() {
  DerivedPages derived_pages;
  derived_pages.Bind(2, 1);
  derived_pages.Grow(kOneMode, 128, 0, 2);
  derived_pages.Grow(kOneMode, 128, 1, 2);
  CHECK(derived_pages.Grow(kOtherMode, 256, 1, 3) == 0 && derived_pages.bytes() == 3 * 256);
  CHECK(derived_pages.Grow(kOtherMode, 256, 0, 1) == 0 && derived_pages.bytes() == 4 * 256);
  derived_pages.Clear();
  CHECK(derived_pages.bytes() == 0 && derived_pages.Grow(kOtherMode, 256, 0, 1) == 0);
}

}  // namespace

int main() {
  TestGrowsAndShrinks();
  TestAnotherModeBeginsAnew();
  return Finish();
}
