#include "page_slabs.h"

#include <algorithm>
#include <iterator>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace shadow {
namespace {

// A huge page of x86-64, and of AArch64 with pages of 4 KB.
constexpr size_t kSlabBytes = size_t{1} << 21;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kShares = false;  // a page by itself has guards around it
#else
constexpr bool kShares = true;
#endif

// A wish: without it all works, only slower.
void AskForHugePages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
}

}  // namespace

void PageSlabs::Bind(size_t page_bytes) {
  page_bytes_ = AlignUp(page_bytes);
  pages_per_slab_ = kShares ? std::max<size_t>(1, kSlabBytes / page_bytes_) : 1;
}

uint8_t* PageSlabs::Take() {
  if (free_.empty()) AddSlab();
  uint8_t* page = free_.back();
  free_.pop_back();
  ++SlabOf(page)->second.taken;
  return page;
}

void PageSlabs::Return(uint8_t* page) {
  const Slabs::iterator slab = SlabOf(page);
  free_.push_back(page);
  if (--slab->second.taken > 0) return;
  const uint8_t *begin = slab->first, *end = begin + pages_per_slab_ * page_bytes_;
  free_.erase(std::remove_if(free_.begin(), free_.end(), [=](uint8_t* p) { return p >= begin && p < end; }),
              free_.end());
  slabs_.erase(slab);
}

// The first one stays in small pages, or a short prompt would pay for a whole huge one.
void PageSlabs::AddSlab() {
  const size_t bytes = pages_per_slab_ * page_bytes_;
  const bool huge = !slabs_.empty() && 2 * bytes > kSlabBytes && bytes <= kSlabBytes;
  free_.reserve((slabs_.size() + 1) * pages_per_slab_);
  Slab slab;
  slab.memory = AllocateAligned(huge ? kSlabBytes : bytes, huge ? kSlabBytes : kAlignment);
  auto* begin = static_cast<uint8_t*>(slab.memory.get());
  if (huge) AskForHugePages(begin, kSlabBytes);
  slabs_.emplace(begin, std::move(slab));
  for (size_t i = pages_per_slab_; i > 0; --i) free_.push_back(begin + (i - 1) * page_bytes_);
}

PageSlabs::Slabs::iterator PageSlabs::SlabOf(uint8_t* page) { return std::prev(slabs_.upper_bound(page)); }

}  // namespace shadow
