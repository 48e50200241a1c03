// Pages that share slabs: none overlaps another, what is given back is used again, and memory that nothing needs goes.
#include "cache/page_slabs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/aligned_buffer.h"
#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

void TestPagesAreApart(size_t bytes) {
  PageSlabs slabs;
  slabs.Bind(bytes);
  const size_t count = std::min<size_t>(3 * slabs.pages_per_slab() + 1, 4000);
  std::vector<uint8_t*> pages;
  for (size_t i = 0; i < count; ++i) {
    pages.push_back(slabs.Take());
    CHECK(reinterpret_cast<uintptr_t>(pages.back()) % kAlignment == 0);
    std::memset(pages.back(), int(i % 251), bytes);
  }
  CHECK(slabs.slabs() == int64_t((count + slabs.pages_per_slab() - 1) / slabs.pages_per_slab()));
  for (size_t i = 0; i < count; ++i) CHECK(pages[i][0] == i % 251 && pages[i][bytes - 1] == i % 251);
  std::sort(pages.begin(), pages.end());
  for (size_t i = 1; i < count; ++i) CHECK(size_t(pages[i] - pages[i - 1]) >= bytes);
  for (uint8_t* page : pages) slabs.Return(page);
  CHECK(slabs.slabs() == 0);
}

void TestReturnedPagesAreUsedAgain() {
  PageSlabs slabs;
  slabs.Bind(20736);
  std::vector<uint8_t*> pages;
  for (size_t i = 0; i < 2 * slabs.pages_per_slab(); ++i) pages.push_back(slabs.Take());
  const int64_t before = slabs.slabs();
  // Every other page of all slabs: nothing can go, and as many fit in again.
  for (size_t i = 0; i < pages.size(); i += 2) {
    if (slabs.pages_per_slab() > 1) slabs.Return(pages[i]);
  }
  CHECK(slabs.slabs() == before);
  for (size_t i = 0; i < pages.size(); i += 2) {
    if (slabs.pages_per_slab() > 1) pages[i] = slabs.Take();
  }
  CHECK(slabs.slabs() == before);
  std::sort(pages.begin(), pages.end());
  CHECK(std::unique(pages.begin(), pages.end()) == pages.end());
  // Rewinding a whole slab gives it back, and what is left can still be used.
  for (size_t i = slabs.pages_per_slab(); i < pages.size(); ++i) slabs.Return(pages[i]);
  CHECK(slabs.slabs() == before / 2);
  CHECK(slabs.Take() != nullptr && slabs.slabs() == before / 2 + 1);
}

}  // namespace

int main() {
  for (size_t bytes : {1, 64, 1000, 20736, 300000, 1500000, 3000000}) TestPagesAreApart(bytes);
  TestReturnedPagesAreUsedAgain();
  return Finish();
}
