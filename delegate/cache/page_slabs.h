// Memory for pages of one size, many to a slab. A cache is scanned page after page; if each had an allocation of its
// own, it would cost the processor a walk through its page tables.
#ifndef SHADOWATTN_DELEGATE_CACHE_PAGE_SLABS_H_
#define SHADOWATTN_DELEGATE_CACHE_PAGE_SLABS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace shadow {

// For one thread at a time.
class PageSlabs {
 public:
  // Before the first page; page_bytes > 0.
  void Bind(size_t page_bytes);
  // A page, kAlignment aligned, not initialised. Throws std::bad_alloc; then nothing has changed.
  uint8_t* Take();
  // A slab that holds no page any more goes back to the system.
  void Return(uint8_t* page);

  int64_t slabs() const { return int64_t(slabs_.size()); }
  size_t pages_per_slab() const { return pages_per_slab_; }

 private:
  struct Release {
    size_t mapped;  // bytes; zero: from the heap
    void operator()(uint8_t* memory) const;
  };
  struct Slab {
    std::unique_ptr<uint8_t, Release> memory;
    size_t taken = 0;  // pages
  };
  using Slabs = std::map<uint8_t*, Slab>;  // by where they begin

  void AddSlab();
  Slabs::iterator SlabOf(uint8_t* page);

  size_t page_bytes_ = 0;
  size_t pages_per_slab_ = 0;
  Slabs slabs_;
  std::vector<uint8_t*> free_;  // pages; room for all there are
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_PAGE_SLABS_H_
