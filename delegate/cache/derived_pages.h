// Data that one mode derives from full pages and stores beside their rows, such as INT8 values. It is made when the
// mode first needs it, so that the other modes pay no memory for it.
#ifndef SHADOWATTN_DELEGATE_CACHE_DERIVED_PAGES_H_
#define SHADOWATTN_DELEGATE_CACHE_DERIVED_PAGES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "config/mode.h"

namespace shadow {

// The pages of a layer are present from the first on. Used like the rest of a cache: by one thread at a time, but for
// the memory of different pages.
class DerivedPages {
 public:
  void Bind(int num_layers, int num_kv_heads);

  // Makes room for `pages` pages of a layer, `bytes` for each KV head (a multiple of kAlignment); drops what another
  // mode left. Returns how many pages were there already. Throws std::bad_alloc; then none are lost.
  int64_t Grow(const ModeTraits& mode, size_t bytes, int layer, int64_t pages);

  // Drops the pages of a layer from `pages` on; all there are.
  void Truncate(int layer, int64_t pages);
  void Clear();

  uint8_t* page(int layer, int kv_head, int64_t index) const {
    return static_cast<uint8_t*>(layers_[layer][index].get()) + kv_head * bytes_per_head_;
  }
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::vector<std::vector<AlignedMemory>> layers_;  // one block per page, for all KV heads
  const ModeTraits* mode_ = nullptr;                // whose pages these are
  size_t num_kv_heads_ = 0;
  size_t bytes_per_head_ = 0;
  std::atomic<int64_t> bytes_{0};
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_DERIVED_PAGES_H_
