#include "cache/kv_cache.h"

#include <algorithm>

namespace shadow {
namespace {

long long Print(int64_t value) { return value; }

}  // namespace

void KvCache::Configure(const CacheSettings& settings) {
  const CacheSettings old = settings_;
  settings_ = settings;
  settings_.cache_type = old.cache_type;
  settings_.max_length = old.max_length;
  backend_->Configure(settings_);
}

Status KvCache::Bind(const OpOptions& op) {
  if (lengths_.empty()) {
    backend_->Bind(op);
    num_kv_heads_ = op.num_kv_heads;
    head_dim_ = op.head_dim;
    lengths_.resize(op.num_layers, 0);
    return Status::Ok();
  }
  const auto num_layers = int(lengths_.size());
  if (op.num_layers == num_layers && op.num_kv_heads == num_kv_heads_ && op.head_dim == head_dim_) return Status::Ok();
  return Status::Error(
      "cache %d serves a model of %d layers, %d KV heads, head dim %d, but this op belongs to one of %d, %d, %d; "
      "create another cache for it",
      handle_, num_layers, num_kv_heads_, head_dim_, op.num_layers, op.num_kv_heads, op.head_dim);
}

Status KvCache::CheckChunk(const Chunk& chunk) const {
  if (chunk.position < 0) {
    return Status::Error("position must not be negative, got %lld; 0 restarts cache %d", Print(chunk.position),
                         handle_);
  }
  if (chunk.position > settings_.max_length - chunk.n_valid) {  // not end(): that may overflow
    return Status::Error(
        "cache %d is full: position %lld and %lld new rows exceed max_length %lld; rewind, or create a cache with a "
        "larger max_length",
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

void KvCache::Append(const ChunkInputs& in, const EstimateInputs* estimate) {
  const Chunk& chunk = in.chunk;
  if (chunk.layer == 0) {
    ForgetFrom(chunk.position);
    running_ = chunk;
  }
  Statistics more;
  backend_->Append(in, estimate, &more);
  lengths_[chunk.layer] = chunk.end();
  running_.layer = chunk.layer + 1;
  AddStatistics(more);
}

void KvCache::Commit(const Chunk& chunk) {
  if (chunk.layer + 1 != int(lengths_.size())) return;
  committed_.store(chunk.end(), std::memory_order_relaxed);
  running_.layer = 0;
}

Status KvCache::CheckAppended(const Chunk& chunk) const {
  const int64_t rows = lengths_[chunk.layer];
  if (chunk.position >= 0 && chunk.position == rows - chunk.n_valid) return Status::Ok();
  return Status::Error(
      "position %lld + n_valid %lld must be the %lld rows of layer %d in cache %d; append the same chunk first",
      Print(chunk.position), Print(chunk.n_valid), Print(rows), chunk.layer, handle_);
}

void KvCache::Attend(const ChunkInputs& in, const AttendPart& part, float* out) {
  Statistics more;
  backend_->Attend(in, part, out, observer(), &more);
  AddStatistics(more);
}

Status KvCache::Rewind(int64_t length) {
  if (length < 0 || length > committed()) {
    return Status::Error("cannot rewind cache %d to %lld: it holds %lld positions", handle_, Print(length),
                         Print(committed()));
  }
  ForgetFrom(length);
  backend_->Truncate(length);
  return Status::Ok();
}

void KvCache::AssumeLength(const Chunk& chunk, int64_t rows) {
  lengths_[chunk.layer] = rows;
  running_ = chunk;
  committed_.store(chunk.position, std::memory_order_relaxed);
}

void KvCache::ForgetFrom(int64_t length) {
  for (int64_t& rows : lengths_) rows = std::min(rows, length);
  running_.layer = 0;
  committed_.store(length, std::memory_order_relaxed);
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
