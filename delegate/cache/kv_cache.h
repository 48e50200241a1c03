// One KV cache: whose rows it holds, how many, and which chunk may come next (docs/op_spec.md: position, length,
// commit). The rows themselves are its backend's.
#ifndef SHADOWATTN_DELEGATE_CACHE_KV_CACHE_H_
#define SHADOWATTN_DELEGATE_CACHE_KV_CACHE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cache/attention_backend.h"
#include "cache/chunk.h"
#include "cache/statistics.h"
#include "config/op_options.h"
#include "config/settings.h"
#include "observe/observer.h"

namespace shadow {

using MakeBackend = std::function<std::unique_ptr<AttentionBackend>(const CacheSettings& settings)>;

// Everything but the atomic reads belongs to the holder of a CacheLease (cache_table.h).
class KvCache {
 public:
  KvCache(int32_t handle, const CacheSettings& settings, const MakeBackend& make_backend)
      : handle_(handle), settings_(settings), backend_(make_backend(settings)) {}
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int32_t handle() const { return handle_; }
  const CacheSettings& settings() const { return settings_; }
  // All but cache_type and max_length: rows may be stored.
  void Configure(const CacheSettings& settings);

  // [layers][heads] instead of the plan's, or empty. Calibration sets them.
  const std::vector<float>& threshold_factors() const { return threshold_factors_; }
  void SetThresholdFactors(std::vector<float> factors) { threshold_factors_ = std::move(factors); }

  // Null unless something is to be observed.
  Observer* observer() { return observer_.what() == 0 ? nullptr : &observer_; }
  Observer& observed() { return observer_; }

  // The first op decides the model's shape, later ones must agree.
  Status Bind(const OpOptions& op);

  // Whether the chunk may be appended now. Changes nothing.
  Status CheckChunk(const Chunk& chunk) const;
  // Appends a checked chunk. estimate: as in AttentionBackend. Throws std::bad_alloc; then rows past the chunk's start
  // are lost.
  void Append(const ChunkInputs& in, const EstimateInputs* estimate);
  // Makes the rows of the last layer's chunk, and with them those of all layers, permanent. Other layers: does nothing.
  void Commit(const Chunk& chunk);
  // Whether the rows of `chunk` are the last ones of its layer.
  Status CheckAppended(const Chunk& chunk) const;
  // Attends over them. Throws std::bad_alloc.
  void Attend(const ChunkInputs& in, const AttendPart& part, float* out);

  // Drops rows from `length` on and frees their memory.
  Status Rewind(int64_t length);
  // Declares `rows` rows of the chunk's layer present and `chunk` the one to come, whatever was there (benchmark_rows).
  void AssumeLength(const Chunk& chunk, int64_t rows);

  int64_t committed() const { return committed_.load(std::memory_order_relaxed); }
  int64_t bytes() const { return backend_->bytes(); }
  int64_t length(int layer) const { return lengths_[layer]; }

  Statistics statistics() const;
  void ResetStatistics();

  // One user at a time: taken by CacheLease.
  bool TryAcquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void Release() { busy_.store(false, std::memory_order_release); }

 private:
  void AddStatistics(const Statistics& more);
  void ForgetFrom(int64_t length);
  Status CheckFirstLayer(const Chunk& chunk) const;
  Status CheckLaterLayer(const Chunk& chunk) const;

  const int32_t handle_;
  CacheSettings settings_;
  const std::unique_ptr<AttentionBackend> backend_;
  int num_kv_heads_ = 0;
  int head_dim_ = 0;
  std::vector<float> threshold_factors_;
  Observer observer_;
  std::vector<int64_t> lengths_;  // [layers]; empty: not bound yet
  Chunk running_{0, 0, 0};        // running_.layer is the layer that must come next; 0: no chunk runs
  std::atomic<int64_t> committed_{0};
  std::atomic<bool> busy_{false};
  mutable std::mutex statistics_mutex_;
  Statistics statistics_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_KV_CACHE_H_
