#include "cache/page_slabs.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "base/aligned_buffer.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace shadow {
namespace {

// A huge page of x86-64, and of AArch64 with pages of 4 KB.
constexpr size_t kSlabBytes = size_t{1} << 21;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kShares = false;  // so that each page has guards around it
#else
constexpr bool kShares = true;
#endif

#if defined(__linux__) && defined(MADV_HUGEPAGE)
// A slab that may become one huge page, or null. Not from the heap, which would not give the space around the alignment
// back to the system.
uint8_t* MapSlab() {
  constexpr size_t kRoom = 2 * kSlabBytes;
  void* room = mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return nullptr;
  auto* begin = static_cast<uint8_t*>(room);
  const size_t before = (kSlabBytes - reinterpret_cast<uintptr_t>(begin) % kSlabBytes) % kSlabBytes;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + kSlabBytes, kSlabBytes - before);
  madvise(begin + before, kSlabBytes, MADV_HUGEPAGE);  // a hint: without it all works, only slower
  return begin + before;
}
void UnmapSlab(uint8_t* slab, size_t bytes) { munmap(slab, bytes); }
#else
uint8_t* MapSlab() { return nullptr; }
void UnmapSlab(uint8_t*, size_t) {}
#endif

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

void PageSlabs::Release::operator()(uint8_t* memory) const {
  if (mapped > 0) {
    UnmapSlab(memory, mapped);
  } else {
    free(memory);
  }
}

// The first slab stays in small pages, or a short prompt would pay for a whole huge one.
void PageSlabs::AddSlab() {
  const size_t bytes = pages_per_slab_ * page_bytes_;
  free_.reserve((slabs_.size() + 1) * pages_per_slab_);
  Slab slab;
  if (!slabs_.empty() && 2 * bytes > kSlabBytes && bytes <= kSlabBytes) slab.memory = {MapSlab(), Release{kSlabBytes}};
  if (slab.memory == nullptr) {
    slab.memory = {static_cast<uint8_t*>(AllocateAligned(bytes).release()), Release{}};
  }
  uint8_t* begin = slab.memory.get();
  slabs_.emplace(begin, std::move(slab));
  for (size_t i = pages_per_slab_; i > 0; --i) free_.push_back(begin + (i - 1) * page_bytes_);
}

PageSlabs::Slabs::iterator PageSlabs::SlabOf(uint8_t* page) { return std::prev(slabs_.upper_bound(page)); }

}  // namespace shadow
