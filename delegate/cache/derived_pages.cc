#include "cache/derived_pages.h"

namespace shadow {

void DerivedPages::Bind(int num_layers, int num_kv_heads) {
  layers_.resize(num_layers);
  num_kv_heads_ = num_kv_heads;
}

int64_t DerivedPages::Grow(const ModeTraits& mode, size_t bytes, int layer, int64_t pages) {
  if (&mode != mode_ || bytes != bytes_per_head_) {
    Clear();
    mode_ = &mode;
    bytes_per_head_ = bytes;
  }
  std::vector<AlignedMemory>& memory = layers_[layer];
  const auto present = int64_t(memory.size());
  std::vector<AlignedMemory> more;
  for (int64_t page = present; page < pages; ++page) more.push_back(AllocateAligned(bytes * num_kv_heads_));
  memory.reserve(present + more.size());
  for (AlignedMemory& block : more) memory.push_back(std::move(block));
  bytes_.fetch_add(int64_t(more.size() * bytes * num_kv_heads_), std::memory_order_relaxed);
  return present;
}

void DerivedPages::Clear() {
  for (size_t layer = 0; layer < layers_.size(); ++layer) Truncate(int(layer), 0);
}

void DerivedPages::Truncate(int layer, int64_t pages) {
  std::vector<AlignedMemory>& memory = layers_[layer];
  if (int64_t(memory.size()) <= pages) return;
  bytes_.fetch_sub(int64_t((memory.size() - pages) * bytes_per_head_ * num_kv_heads_), std::memory_order_relaxed);
  memory.resize(pages);
}

}  // namespace shadow
