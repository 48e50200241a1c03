// One KV cache: rows of k, v and INT8 k per (layer, KV head) in pages of 64, with the length and commit rules of
// docs/op_spec.md (position, length, commit). It stores and counts; append_rows.h fills it.
#ifndef SHADOWATTN_DELEGATE_KV_CACHE_H_
#define SHADOWATTN_DELEGATE_KV_CACHE_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "aligned_buffer.h"
#include "derived_pages.h"
#include "kernels/layout.h"
#include "observer.h"
#include "op_options.h"
#include "options.h"
#include "page_slabs.h"
#include "plan.h"
#include "skip_margins.h"
#include "status.h"

namespace shadow {

// What one chunk of one layer appends: rows `position` .. `position + n_valid - 1`.
struct Chunk {
  int layer;
  int64_t position;
  int64_t n_valid;

  int64_t end() const { return position + n_valid; }
};

struct Statistics {
  int64_t rows = 0;
  int64_t causal_rows = 0;
  int64_t value_rows_read = 0;
  int64_t k_saturated = 0;
  int64_t rows_not_compensated = 0;  // scores too coarse or saturated for it
  int64_t pages = 0;                 // that rows which choose could see, summed
  int64_t pages_scored = 0;          // those of them that were scored
  double seconds_append = 0;
  double seconds_estimate = 0;
  double seconds_select = 0;
  double seconds_attend = 0;

  void Add(const Statistics& other);
};

// Everything but the atomic reads belongs to the holder of a CacheLease (cache_table.h).
class KvCache {
 public:
  KvCache(int32_t handle, const CacheSettings& settings) : handle_(handle), settings_(settings) {}
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int32_t handle() const { return handle_; }
  const CacheSettings& settings() const { return settings_; }
  // Keeps cache_type and max_length: rows may be stored.
  void Configure(const CacheSettings& settings);

  // [layers][heads] instead of the plan's, or empty. Calibration sets them.
  const std::vector<float>& threshold_factors() const { return threshold_factors_; }
  void SetThresholdFactors(std::vector<float> factors) { threshold_factors_ = std::move(factors); }

  // Null unless something is to be observed.
  Observer* observer() { return observer_.what() == 0 ? nullptr : &observer_; }
  Observer& observed() { return observer_; }

  // The first op decides the shape, later ones must agree. has_int8: store INT8 keys too.
  Status Bind(const OpOptions& op, bool has_int8);

  // Whether the chunk may be appended now. Changes nothing.
  Status CheckChunk(const Chunk& chunk) const;
  // Makes room, and drops what the chunk overwrites. Throws std::bad_alloc; then only rows past the chunk's start are
  // lost.
  void BeginChunk(const Chunk& chunk);
  // All heads of the chunk's rows are written.
  void EndChunk(const Chunk& chunk);
  // Makes the rows of the last layer's chunk, and with them those of all layers, permanent. Other layers: does nothing.
  void Commit(const Chunk& chunk);
  // Whether `chunk` is what (cache, layer) now ends with.
  Status CheckAppended(const Chunk& chunk, int64_t kv_len) const;

  // Drops rows from `length` on and frees their pages.
  Status Rewind(int64_t length);
  // Declares `rows` rows of the chunk's layer present and `chunk` the one to come, whatever was there (benchmark_rows).
  void AssumeLength(const Chunk& chunk, int64_t rows);

  int64_t committed() const { return committed_.load(std::memory_order_relaxed); }
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed) + derived_pages_.bytes(); }
  int64_t length(int layer) const { return lengths_[layer]; }
  KvView view(int layer, int kv_head) const;
  const KvPage& page(int layer, int kv_head, int64_t index) const {
    return heads_[HeadIndex(layer, kv_head)].pages[index];
  }
  // Of the INT8 keys of a page, once it is full.
  void WritePageKeyBounds(int layer, int kv_head, int64_t index);
  // Beside the full pages, for modes that need more of them.
  DerivedPages& derived_pages() { return derived_pages_; }
  SkipMargins& skip_margins() { return history_; }
  // Pages of every head of the layer so that it can hold `rows` rows. Throws std::bad_alloc.
  void Reserve(int layer, int64_t rows);

  void AddStatistics(const Statistics& more);
  Statistics statistics() const;
  void ResetStatistics();

  // One user at a time: taken by CacheLease.
  bool TryAcquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void Release() { busy_.store(false, std::memory_order_release); }

 private:
  struct Head {
    std::vector<KvPage> pages;
    std::vector<AlignedMemory> bounds;  // one block per 64 pages
    std::vector<uint8_t*> bound_blocks;
  };

  size_t HeadIndex(int layer, int kv_head) const { return size_t(layer) * num_kv_heads_ + kv_head; }
  size_t FloatBytes() const;  // of k, and of v, in a page
  size_t Int8Bytes() const;
  size_t SumBytes() const;
  size_t PageBytes() const;
  void AddPage(Head* head);
  void AddBounds(Head* head);
  void DropPages(int64_t rows);
  void Truncate(int64_t length);
  Status CheckFirstLayer(const Chunk& chunk) const;
  Status CheckLaterLayer(const Chunk& chunk) const;

  const int32_t handle_;
  CacheSettings settings_;
  int num_layers_ = 0;  // 0: not bound yet
  int num_kv_heads_ = 0;
  int head_dim_ = 0;
  bool has_int8_ = false;
  std::vector<float> threshold_factors_;
  Observer observer_;
  DerivedPages derived_pages_;
  SkipMargins history_;
  PageSlabs slabs_;
  std::vector<Head> heads_;       // [layer][kv_head]; k of a page is where its memory begins, which is of slabs_
  std::vector<int64_t> lengths_;  // [layer]
  Chunk running_{0, 0, 0};        // running_.layer is the layer that must come next; 0: no chunk runs
  std::atomic<int64_t> committed_{0};
  std::atomic<int64_t> bytes_{0};
  std::atomic<bool> busy_{false};
  mutable std::mutex statistics_mutex_;
  Statistics statistics_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KV_CACHE_H_
