#include "estimate_inputs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>

#include "magnitude.h"

namespace shadow {
namespace {

// Below this many cached rows, waking another thread costs more than it saves.
constexpr int64_t kRowsWorthSharing = 2048;
constexpr float kLargest = 127.0f;

// Coarse INT8 queries of one KV head: row g * T + t, zero where t is padding.
void QuantizeQueries(const OpInputs& in, const OpOptions& op, const Plan& plan, int kv_head, int8_t* q_i8) {
  const int64_t d = op.head_dim;
  const float* variance = plan.k_variance(in.chunk.layer, kv_head);
  for (int64_t g = 0; g < op.group(); ++g) {
    const int64_t head = int64_t{kv_head} * op.group() + g;
    for (int64_t t = 0; t < in.time; ++t) {
      int8_t* row = q_i8 + (head * in.time + t) * d;
      const float* q = in.q + (t * op.num_heads + head) * d;
      const bool valid = t < in.chunk.n_valid;
      if (!valid || !QuantizeQueryCoarse(q, variance, plan.estimate_multiplier(), op.head_dim, row))
        std::memset(row, 0, d);
    }
  }
}

// A page's INT8 keys, four channels of a position together and biased by 128, back into rows.
void UnpackKeys(const KvPage& page, int d, int64_t rows, int8_t* k_i8) {
  constexpr uint32_t kBias = 0x80808080;  // flipping the top bit takes 128 off
  const auto unpack = [&](int channel, size_t bytes) {
    const uint8_t* source = page.k_u8 + size_t(channel) * kPageRows;
    for (int64_t row = 0; row < rows; ++row) {
      uint32_t quad;
      std::memcpy(&quad, source + row * 4, sizeof(quad));
      quad ^= kBias;
      std::memcpy(k_i8 + row * d + channel, &quad, bytes);
    }
  };
  for (int channel = 0; channel + 4 <= d; channel += 4) unpack(channel, 4);
  if (d % 4 != 0) unpack(d / 4 * 4, size_t(d % 4));
}

void CopyKeys(const KvCache& cache, const OpOptions& op, int layer, int kv_head, int64_t seq_len, int8_t* k_i8) {
  const int64_t length = cache.length(layer);
  int8_t* head = k_i8 + int64_t{kv_head} * seq_len * op.head_dim;
  for (int64_t begin = 0; begin < length; begin += kPageRows) {
    const int64_t rows = std::min<int64_t>(kPageRows, length - begin);
    UnpackKeys(cache.page(layer, kv_head, begin / kPageRows), op.head_dim, rows, head + begin * op.head_dim);
  }
  std::memset(head + length * op.head_dim, 0, (seq_len - length) * op.head_dim);
}

// The scales of one KV head and its queries in a chunk, and INT8 rows in them (models/reference_grid.py).
class GridHead {
 public:
  GridHead(const OpOptions& op, const OpInputs& in, const Engine& engine, const KvCache& cache, int kv_head)
      : op_(op),
        in_(in),
        engine_(engine),
        view_(cache.view(in.chunk.layer, kv_head)),
        kv_head_(kv_head),
        length_(cache.length(in.chunk.layer)) {}

  // Adds to *clamped and *outside.
  void Write(const EstimateInputs& out, Scratch* scratch, int64_t* clamped, int64_t* outside) {
    const int padded = PaddedFloats(op_.head_dim);
    row_ = scratch->prefix.Reserve(2 * padded);
    no_centre_ = row_ + padded;
    std::fill(no_centre_, no_centre_ + padded, 0.0f);
    key_ = scratch->key.Reserve(AlignUp(PaddedBytes(op_.head_dim)));
    const int k_bucket = ChooseBucket(LargestKey() / kLargest, false, out.scales, outside);
    *clamped += WriteKeys(out, plan().k_scale(k_bucket));
    for (int g = 0; g < op_.group(); ++g) {
      const int64_t head = int64_t{kv_head_} * op_.group() + g;
      const int q_bucket = ChooseBucket(LargestQuery(head) / kLargest, true, out.scales, outside);
      *clamped += WriteQueries(out, head, plan().q_scale(q_bucket));
      if (out.buckets != nullptr) out.buckets[head] = 1 + q_bucket * plan().k_buckets() + k_bucket;
    }
  }

 private:
  const Plan& plan() const { return *engine_.plan(); }

  // Index of the scale of Q, or of K, that is nearest; of two alike, the smaller.
  int ChooseBucket(float measured, bool of_q, Scales scales, int64_t* outside) const {
    const int count = of_q ? plan().q_buckets() : plan().k_buckets();
    if (scales == Scales::kMiddle) return count / 2;
    const auto scale = [&](int i) { return double(of_q ? plan().q_scale(i) : plan().k_scale(i)); };
    const double own = std::max(double(measured), 1e-30);
    *outside += own > scale(count - 1) || own < scale(0);
    int best = 0;
    double least = HUGE_VAL;
    for (int i = 0; i < count; ++i) {
      const double distance = std::fabs(scales == Scales::kNearest ? own - scale(i) : std::log(own / scale(i)));
      if (distance < least) best = i;
      least = std::min(least, distance);
    }
    return best;
  }

  const float* Key(int64_t position) {
    std::fill(row_, row_ + PaddedFloats(op_.head_dim), 0.0f);
    const int i = int(position % kPageRows);
    engine_.kernels().of(view_.type).sum_values(view_.pages[position / kPageRows].k, i, i + 1, op_.head_dim, row_);
    return row_;
  }

  float LargestKey() {
    float largest = 0;
    for (int64_t j = 0; j < length_; ++j) largest = std::max(largest, LargestMagnitude(Key(j), op_.head_dim));
    return largest;
  }

  const float* Query(int64_t head, int64_t t) const { return in_.q + (t * op_.num_heads + head) * op_.head_dim; }

  float LargestQuery(int64_t head) const {
    float largest = 0;
    for (int64_t t = 0; t < in_.chunk.n_valid; ++t)
      largest = std::max(largest, LargestMagnitude(Query(head, t), op_.head_dim));
    return largest;
  }

  int Quantize(const float* x, float scale, int8_t* out) {
    const int clamped = engine_.kernels().quantize_key(x, no_centre_, 1.0f / scale, op_.head_dim, key_);
    std::memcpy(out, key_, op_.head_dim);
    return std::max(0, clamped);
  }

  int64_t WriteKeys(const EstimateInputs& out, float scale) {
    int8_t* rows = out.k_i8 + kv_head_ * out.seq_len * op_.head_dim;
    int64_t clamped = 0;
    for (int64_t j = 0; j < length_; ++j) clamped += Quantize(Key(j), scale, rows + j * op_.head_dim);
    std::memset(rows + length_ * op_.head_dim, 0, (out.seq_len - length_) * op_.head_dim);
    return clamped;
  }

  int64_t WriteQueries(const EstimateInputs& out, int64_t head, float scale) {
    int8_t* rows = out.q_i8 + head * in_.time * op_.head_dim;
    int64_t clamped = 0;
    for (int64_t t = 0; t < in_.chunk.n_valid; ++t) clamped += Quantize(Query(head, t), scale, rows + t * op_.head_dim);
    std::memset(rows + in_.chunk.n_valid * op_.head_dim, 0, (in_.time - in_.chunk.n_valid) * op_.head_dim);
    return clamped;
  }

  const OpOptions& op_;
  const OpInputs& in_;
  const Engine& engine_;
  const KvView view_;
  const int64_t kv_head_;
  const int64_t length_;
  float* row_ = nullptr;
  float* no_centre_ = nullptr;
  int8_t* key_ = nullptr;
};

}  // namespace

Status CheckScales(const Plan& plan, Scales scales) {
  if (scales < Scales::kRankInvariant || scales > Scales::kMiddle) {
    return Status::Error("scales must be 0 (rank-invariant), 1, 2 or 3 (of the grid), got %d", int(scales));
  }
  if (scales == Scales::kRankInvariant || plan.q_buckets() > 0) return Status::Ok();
  return Status::Error(
      "the plan has no scale grid; convert the model again with --grid_multipliers, or use scales=rank");
}

Status CheckFitsBucket(const Chunk& chunk, int64_t seq_len) {
  if (chunk.end() <= seq_len) return Status::Ok();
  return Status::Error("kv_len %lld (position %lld + n_valid %lld) does not fit bucket %lld; use a larger bucket",
                       static_cast<long long>(chunk.end()), static_cast<long long>(chunk.position),
                       static_cast<long long>(chunk.n_valid), static_cast<long long>(seq_len));
}

Status WriteEstimateInputs(const OpOptions& op, const OpInputs& in, const EstimateInputs& out, Engine* engine,
                           KvCache* cache) {
  const auto start = std::chrono::steady_clock::now();
  const Plan* plan = engine->plan();
  if (out.buckets != nullptr) std::fill_n(out.buckets, op.num_heads, 0);  // of the rank-invariant scales
  if (out.clamped != nullptr) *out.clamped = 0;
  if (out.outside != nullptr) *out.outside = 0;
  if (plan == nullptr) {  // mode dense reads neither
    std::memset(out.q_i8, 0, op.num_heads * in.time * op.head_dim);
    std::memset(out.k_i8, 0, op.num_kv_heads * out.seq_len * op.head_dim);
    return Status::Ok();
  }
  std::atomic<int64_t> clamped{0}, outside{0};
  const bool may_share = in.chunk.end() >= kRowsWorthSharing;
  const bool done = engine->pool().ParallelFor(op.num_kv_heads, may_share, [&](int64_t head, Scratch* scratch) {
    if (out.scales == Scales::kRankInvariant) {
      QuantizeQueries(in, op, *plan, int(head), out.q_i8);
      CopyKeys(*cache, op, in.chunk.layer, int(head), out.seq_len, out.k_i8);
      return;
    }
    int64_t my_clamped = 0, my_outside = 0;
    GridHead(op, in, *engine, *cache, int(head)).Write(out, scratch, &my_clamped, &my_outside);
    clamped += my_clamped;
    outside += my_outside;
  });
  if (!done) return Status::Error("out of memory while appending to cache %d", cache->handle());
  if (out.clamped != nullptr) *out.clamped = clamped;
  if (out.outside != nullptr) *out.outside = outside;
  Statistics more;
  more.seconds_append = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  cache->AddStatistics(more);
  return Status::Ok();
}

}  // namespace shadow
