#include "kv_cache.h"

#include <algorithm>
#include <cstring>

#include "key_bounds.h"

namespace shadow {
namespace {

long long Print(int64_t value) { return value; }

}  // namespace

void Statistics::Add(const Statistics& other) {
  rows += other.rows;
  causal_rows += other.causal_rows;
  value_rows_read += other.value_rows_read;
  k_saturated += other.k_saturated;
  rows_not_compensated += other.rows_not_compensated;
  pages += other.pages;
  pages_scored += other.pages_scored;
  seconds_append += other.seconds_append;
  seconds_estimate += other.seconds_estimate;
  seconds_select += other.seconds_select;
  seconds_attend += other.seconds_attend;
}

void KvCache::Configure(const CacheSettings& settings) {
  const CacheSettings old = settings_;
  if (settings.mode != old.mode) derived_pages_.Clear();
  settings_ = settings;
  settings_.cache_type = old.cache_type;
  settings_.max_length = old.max_length;
}

Status KvCache::Bind(const OpOptions& op, bool has_int8) {
  if (num_layers_ == 0) {
    heads_.resize(size_t(op.num_layers) * op.num_kv_heads);
    lengths_.resize(op.num_layers, 0);
    derived_pages_.Bind(op.num_layers, op.num_kv_heads);
    history_.Bind(op.num_layers, op.num_heads);
    num_kv_heads_ = op.num_kv_heads;
    head_dim_ = op.head_dim;
    has_int8_ = has_int8;
    num_layers_ = op.num_layers;
    slabs_.Bind(PageBytes());
    return Status::Ok();
  }
  if (op.num_layers == num_layers_ && op.num_kv_heads == num_kv_heads_ && op.head_dim == head_dim_) return Status::Ok();
  return Status::Error(
      "cache %d serves a model of %d layers, %d KV heads, head dim %d, but this op belongs to one of %d, %d, %d; "
      "create another cache for it",
      handle_, num_layers_, num_kv_heads_, head_dim_, op.num_layers, op.num_kv_heads, op.head_dim);
}

Status KvCache::CheckChunk(const Chunk& chunk) const {
  if (chunk.position < 0) {
    return Status::Error("position must not be negative, got %lld; 0 restarts cache %d", Print(chunk.position),
                         handle_);
  }
  if (chunk.end() > settings_.max_length) {
    return Status::Error(
        "cache %d is full: position %lld and %lld new rows exceed max_length %lld; rewind, or create a cache with a "
        "larger "
        "max_length",
        handle_, Print(chunk.position), Print(chunk.n_valid), Print(settings_.max_length));
  }
  return chunk.layer == 0 ? CheckFirstLayer(chunk) : CheckLaterLayer(chunk);
}

Status KvCache::CheckFirstLayer(const Chunk& chunk) const {
  if (chunk.position <= committed()) return Status::Ok();
  return Status::Error(
      "position %lld leaves a gap: cache %d holds %lld positions; continue at %lld, or at a smaller position to rewind",
      Print(chunk.position), handle_, Print(committed()), Print(committed()));
}

Status KvCache::CheckLaterLayer(const Chunk& chunk) const {
  if (running_.layer != chunk.layer) {
    return Status::Error("cache %d expects layer %d next, got layer %d; run every chunk from layer 0 on, one at a time",
                         handle_, running_.layer, chunk.layer);
  }
  if (running_.position != chunk.position || running_.n_valid != chunk.n_valid) {
    return Status::Error(
        "position %lld and n_valid %lld differ from the %lld and %lld of layer 0 of this chunk in cache %d; "
        "give every layer the same",
        Print(chunk.position), Print(chunk.n_valid), Print(running_.position), Print(running_.n_valid), handle_);
  }
  return Status::Ok();
}

void KvCache::BeginChunk(const Chunk& chunk) {
  if (chunk.layer == 0) {
    Truncate(chunk.position);
    running_ = chunk;
  }
  Reserve(chunk.layer, chunk.end());
  const int64_t before = history_.bytes();
  history_.Truncate(chunk.layer, chunk.position);
  if (settings_.max_skipped_mass > 0) history_.Reserve(chunk.layer, chunk.end());
  bytes_.fetch_add(history_.bytes() - before, std::memory_order_relaxed);
}

void KvCache::EndChunk(const Chunk& chunk) {
  lengths_[chunk.layer] = chunk.end();
  running_.layer = chunk.layer + 1;
}

void KvCache::Commit(const Chunk& chunk) {
  if (chunk.layer != num_layers_ - 1) return;
  committed_.store(chunk.end(), std::memory_order_relaxed);
  running_.layer = 0;
}

Status KvCache::CheckAppended(const Chunk& chunk, int64_t kv_len) const {
  if (num_layers_ != 0 && chunk.position >= 0 && lengths_[chunk.layer] == kv_len && chunk.end() == kv_len) {
    return Status::Ok();
  }
  return Status::Error(
      "kv_len %lld must be position + n_valid (%lld + %lld) and the %lld rows of cache %d; feed it from ShadowKvAppend "
      "of the same chunk",
      Print(kv_len), Print(chunk.position), Print(chunk.n_valid), Print(num_layers_ == 0 ? 0 : lengths_[chunk.layer]),
      handle_);
}

Status KvCache::Rewind(int64_t length) {
  if (length < 0 || length > committed()) {
    return Status::Error("cannot rewind cache %d to %lld: it holds %lld positions", handle_, Print(length),
                         Print(committed()));
  }
  Truncate(length);
  DropPages(length);
  return Status::Ok();
}

void KvCache::AssumeLength(const Chunk& chunk, int64_t rows) {
  lengths_[chunk.layer] = rows;
  derived_pages_.Truncate(chunk.layer, rows / kPageRows);
  running_ = chunk;
  committed_.store(chunk.position, std::memory_order_relaxed);
}

KvView KvCache::view(int layer, int kv_head) const {
  const Head& head = heads_[HeadIndex(layer, kv_head)];
  return {head.pages.data(), head_dim_, settings_.cache_type, head.bound_blocks.data()};
}

void KvCache::Truncate(int64_t length) {
  for (int64_t& rows : lengths_) rows = std::min(rows, length);
  for (int layer = 0; layer < num_layers_; ++layer) derived_pages_.Truncate(layer, length / kPageRows);
  running_.layer = 0;
  committed_.store(length, std::memory_order_relaxed);
}

void KvCache::Reserve(int layer, int64_t rows) {
  const size_t pages = size_t(rows + kPageRows - 1) / kPageRows;
  for (int kv_head = 0; kv_head < num_kv_heads_; ++kv_head) {
    Head* head = &heads_[HeadIndex(layer, kv_head)];
    while (head->pages.size() < pages) AddPage(head);
  }
}

size_t KvCache::FloatBytes() const {
  return AlignUp(size_t(kPageRows) * PaddedFloats(head_dim_) * ElementBytes(settings_.cache_type));
}

size_t KvCache::Int8Bytes() const { return has_int8_ ? AlignUp(size_t(kPageRows) * PaddedBytes(head_dim_)) : 0; }

size_t KvCache::SumBytes() const { return AlignUp(size_t(PaddedFloats(head_dim_)) * sizeof(float)); }

size_t KvCache::PageBytes() const { return 2 * FloatBytes() + Int8Bytes() + SumBytes(); }

void KvCache::AddBounds(Head* head) {
  const size_t bytes = KeyBoundBytes(head_dim_);
  head->bounds.reserve(head->bounds.size() + 1);
  head->bound_blocks.reserve(head->bounds.size() + 1);
  AlignedMemory block = AllocateAligned(bytes);
  std::memset(block.get(), 128, bytes);
  head->bound_blocks.push_back(static_cast<uint8_t*>(block.get()));
  head->bounds.push_back(std::move(block));
  bytes_.fetch_add(int64_t(bytes), std::memory_order_relaxed);
}

void KvCache::WritePageKeyBounds(int layer, int kv_head, int64_t index) {
  const Head& head = heads_[HeadIndex(layer, kv_head)];
  WriteKeyBounds(head.pages[index].k_u8, head_dim_, int(index % kBoundPages), head.bound_blocks[index / kBoundPages]);
}

void KvCache::AddPage(Head* head) {
  if (has_int8_ && head->bounds.size() * kBoundPages == head->pages.size()) AddBounds(head);
  const size_t float_bytes = FloatBytes();
  const size_t bytes = PageBytes();
  // Room first, so that nothing can throw once there is a page.
  if (head->pages.size() == head->pages.capacity()) head->pages.reserve(2 * head->pages.size() + 4);
  uint8_t* base = slabs_.Take();
  uint8_t* k_u8 = has_int8_ ? base + 2 * float_bytes : nullptr;
  std::memset(base, 0, 2 * float_bytes);
  if (has_int8_) std::memset(k_u8, 128, Int8Bytes());
  auto* v_sum = reinterpret_cast<float*>(base + 2 * float_bytes + Int8Bytes());
  head->pages.push_back({base, base + float_bytes, k_u8, v_sum});
  bytes_.fetch_add(int64_t(bytes), std::memory_order_relaxed);
}

void KvCache::DropPages(int64_t rows) {
  const int64_t before = history_.bytes();
  for (int layer = 0; layer < num_layers_; ++layer) history_.Truncate(layer, rows);
  bytes_.fetch_add(history_.bytes() - before, std::memory_order_relaxed);
  const size_t pages = size_t(rows + kPageRows - 1) / kPageRows;
  const size_t page_bytes = PageBytes();
  for (Head& head : heads_) {
    if (head.pages.size() <= pages) continue;
    bytes_.fetch_sub(int64_t((head.pages.size() - pages) * page_bytes), std::memory_order_relaxed);
    for (size_t page = pages; page < head.pages.size(); ++page)
      slabs_.Return(static_cast<uint8_t*>(head.pages[page].k));
    head.pages.resize(pages);
    if (!has_int8_) continue;
    const size_t blocks = (pages + kBoundPages - 1) / kBoundPages;
    bytes_.fetch_sub(int64_t((head.bounds.size() - blocks) * KeyBoundBytes(head_dim_)), std::memory_order_relaxed);
    head.bounds.resize(blocks);
    head.bound_blocks.resize(blocks);
  }
}

void KvCache::AddStatistics(const Statistics& more) {
  std::lock_guard<std::mutex> lock(statistics_mutex_);
  statistics_.Add(more);
}

Statistics KvCache::statistics() const {
  std::lock_guard<std::mutex> lock(statistics_mutex_);
  return statistics_;
}

void KvCache::ResetStatistics() {
  std::lock_guard<std::mutex> lock(statistics_mutex_);
  statistics_ = Statistics();
}

}  // namespace shadow
