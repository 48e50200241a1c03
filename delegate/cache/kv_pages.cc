#include "cache/kv_pages.h"

#include <cstring>

#include "cache/key_bounds.h"

namespace shadow {

void KvPages::Bind(const OpOptions& op, bool has_int8) {
  heads_.resize(size_t(op.num_layers) * op.num_kv_heads);
  derived_.Bind(op.num_layers, op.num_kv_heads);
  skip_margins_.Bind(op.num_layers, op.num_heads);
  num_layers_ = op.num_layers;
  num_kv_heads_ = op.num_kv_heads;
  head_dim_ = op.head_dim;
  has_int8_ = has_int8;
  slabs_.Bind(PageBytes());
}

void KvPages::Prepare(const Chunk& chunk, bool samples_skip_losses) {
  derived_.Truncate(chunk.layer, chunk.position / kPageRows);
  const auto pages = size_t((chunk.end() + kPageRows - 1) / kPageRows);
  for (int kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
    Head* head = &heads_[HeadIndex(chunk.layer, kv_head)];
    while (head->pages.size() < pages) AddPage(head);
  }
  const int64_t before = skip_margins_.bytes();
  skip_margins_.Truncate(chunk.layer, chunk.position);
  if (samples_skip_losses) skip_margins_.Reserve(chunk.layer, chunk.end());
  AddBytes(skip_margins_.bytes() - before);
}

void KvPages::Truncate(int64_t length) {
  const int64_t before = skip_margins_.bytes();
  for (int layer = 0; layer < num_layers_; ++layer) {
    derived_.Truncate(layer, length / kPageRows);
    skip_margins_.Truncate(layer, length);
  }
  AddBytes(skip_margins_.bytes() - before);
  for (Head& head : heads_) DropPages(&head, size_t(length + kPageRows - 1) / kPageRows);
}

KvView KvPages::view(int layer, int kv_head) const {
  const Head& head = heads_[HeadIndex(layer, kv_head)];
  return {head.pages.data(), head_dim_, type_, head.bound_blocks.data()};
}

void KvPages::WritePageKeyBounds(int layer, int kv_head, int64_t index) {
  const Head& head = heads_[HeadIndex(layer, kv_head)];
  WriteKeyBounds(head.pages[index].k_u8, head_dim_, int(index % kBoundPages), head.bound_blocks[index / kBoundPages]);
}

size_t KvPages::FloatBytes() const {
  return AlignUp(size_t(kPageRows) * PaddedFloats(head_dim_) * ElementBytes(type_));
}

size_t KvPages::Int8Bytes() const { return has_int8_ ? AlignUp(size_t(kPageRows) * PaddedBytes(head_dim_)) : 0; }

size_t KvPages::SumBytes() const { return AlignUp(size_t(PaddedFloats(head_dim_)) * sizeof(float)); }

size_t KvPages::PageBytes() const { return 2 * FloatBytes() + Int8Bytes() + SumBytes(); }

void KvPages::AddBounds(Head* head) {
  const size_t bytes = KeyBoundBytes(head_dim_);
  head->bounds.reserve(head->bounds.size() + 1);
  head->bound_blocks.reserve(head->bounds.size() + 1);
  AlignedMemory block = AllocateAligned(bytes);
  std::memset(block.get(), 128, bytes);
  head->bound_blocks.push_back(static_cast<uint8_t*>(block.get()));
  head->bounds.push_back(std::move(block));
  AddBytes(int64_t(bytes));
}

void KvPages::AddPage(Head* head) {
  if (has_int8_ && head->bounds.size() * kBoundPages == head->pages.size()) AddBounds(head);
  const size_t float_bytes = FloatBytes();
  // Room first, so that nothing can throw once there is a page.
  if (head->pages.size() == head->pages.capacity()) head->pages.reserve(2 * head->pages.size() + 4);
  uint8_t* base = slabs_.Take();
  uint8_t* k_u8 = has_int8_ ? base + 2 * float_bytes : nullptr;
  std::memset(base, 0, 2 * float_bytes);
  if (has_int8_) std::memset(k_u8, 128, Int8Bytes());
  auto* v_sum = reinterpret_cast<float*>(base + 2 * float_bytes + Int8Bytes());
  head->pages.push_back({base, base + float_bytes, k_u8, v_sum});
  AddBytes(int64_t(PageBytes()));
}

// All but the first `pages` ones.
void KvPages::DropPages(Head* head, size_t pages) {
  if (head->pages.size() <= pages) return;
  AddBytes(-int64_t((head->pages.size() - pages) * PageBytes()));
  for (size_t page = pages; page < head->pages.size(); ++page) {
    slabs_.Return(static_cast<uint8_t*>(head->pages[page].k));
  }
  head->pages.resize(pages);
  if (!has_int8_) return;
  const size_t blocks = (pages + kBoundPages - 1) / kBoundPages;
  AddBytes(-int64_t((head->bounds.size() - blocks) * KeyBoundBytes(head_dim_)));
  head->bounds.resize(blocks);
  head->bound_blocks.resize(blocks);
}

}  // namespace shadow
