#include "estimate/estimate_inputs.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/magnitude.h"

namespace shadow {
namespace {

// Below this many cached rows, waking another thread costs more than it saves.
constexpr int64_t kRowsWorthSharing = 2048;
constexpr float kLargest = 127.0f;

// Coarse INT8 queries of one KV head: row g * T + t, zero where t is padding.
void QuantizeQueries(const ChunkInputs& in, const Plan& plan, int kv_head, int8_t* q_i8) {
  const int64_t d = in.op.head_dim, group = in.op.group();
  const float* variance = plan.k_variance(in.chunk.layer, kv_head);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t t = 0; t < in.time; ++t) {
      int8_t* row = q_i8 + (head * in.time + t) * d;
      const float* q = in.q + (t * in.op.num_heads + head) * d;
      const bool valid = t < in.chunk.n_valid;
      if (!valid || !QuantizeQueryCoarse(q, variance, plan.estimate_multiplier(), in.op.head_dim, row)) {
        std::memset(row, 0, d);
      }
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

void CopyKeys(const ChunkInputs& in, const KvPages& pages, int kv_head, int64_t seq_len, int8_t* k_i8) {
  const int64_t length = in.chunk.end(), d = in.op.head_dim;
  int8_t* head = k_i8 + kv_head * seq_len * d;
  for (int64_t begin = 0; begin < length; begin += kPageRows) {
    const int64_t rows = std::min<int64_t>(kPageRows, length - begin);
    UnpackKeys(pages.page(in.chunk.layer, kv_head, begin / kPageRows), int(d), rows, head + begin * d);
  }
  std::memset(head + length * d, 0, (seq_len - length) * d);
}

// The scales of one KV head and its queries in a chunk, and INT8 rows in them (models/oracle/reference_grid.py).
class GridHead {
 public:
  GridHead(const ChunkInputs& in, const Plan& plan, const KernelTable& kernels, const KvPages& pages, int kv_head)
      : in_(in),
        plan_(plan),
        kernels_(kernels),
        view_(pages.view(in.chunk.layer, kv_head)),
        kv_head_(kv_head),
        length_(in.chunk.end()) {}

  void Write(const EstimateInputs& out) {
    const int64_t group = in_.op.group();
    const int k_bucket = NearestBucket(LargestKey() / kLargest, false, out.scales);
    WriteKeys(out, plan_.k_scale(k_bucket));
    for (int64_t head = kv_head_ * group; head < (kv_head_ + 1) * group; ++head) {
      const int q_bucket = NearestBucket(LargestQuery(head) / kLargest, true, out.scales);
      WriteQueries(out, head, plan_.q_scale(q_bucket));
      out.buckets[head] = 1 + q_bucket * plan_.k_buckets() + k_bucket;
    }
  }
  int64_t clamped() const { return clamped_; }  // elements
  int64_t outside() const { return outside_; }  // measured scales outside every bucket

 private:
  // The bucket of the scale of Q, or of K, that is nearest to the measured one; of two equally near, the smaller.
  int NearestBucket(float measured, bool of_q, Scales scales) {
    const int count = of_q ? plan_.q_buckets() : plan_.k_buckets();
    if (scales == Scales::kMiddle) return count / 2;
    const auto scale = [&](int i) { return double(of_q ? plan_.q_scale(i) : plan_.k_scale(i)); };
    const double own = std::max(double(measured), 1e-30);
    outside_ += own > scale(count - 1) || own < scale(0);
    int best = 0;
    double least = HUGE_VAL;
    for (int i = 0; i < count; ++i) {
      const double distance = std::fabs(scales == Scales::kNearest ? own - scale(i) : std::log(own / scale(i)));
      if (distance < least) best = i;
      least = std::min(least, distance);
    }
    return best;
  }

  // As float32, padded with zeros.
  const float* Key(int64_t position) {
    std::fill(row_, row_ + PaddedFloats(in_.op.head_dim), 0.0f);
    const int i = int(position % kPageRows);
    kernels_.of(view_.type).sum_values(view_.pages[position / kPageRows].k, i, i + 1, in_.op.head_dim, row_);
    return row_;
  }

  const float* Query(int64_t head, int64_t t) const { return in_.q + (t * in_.op.num_heads + head) * in_.op.head_dim; }

  float LargestKey() {
    float largest = 0;
    for (int64_t j = 0; j < length_; ++j) largest = std::max(largest, LargestMagnitude(Key(j), in_.op.head_dim));
    return largest;
  }

  float LargestQuery(int64_t head) const {
    float largest = 0;
    for (int64_t t = 0; t < in_.chunk.n_valid; ++t) {
      largest = std::max(largest, LargestMagnitude(Query(head, t), in_.op.head_dim));
    }
    return largest;
  }

  void Quantize(const float* x, float scale, int8_t* out) {
    clamped_ += std::max(0, kernels_.quantize_key(x, no_centre_, 1.0f / scale, in_.op.head_dim, out));
  }

  void WriteKeys(const EstimateInputs& out, float scale) {
    const int64_t d = in_.op.head_dim;
    int8_t* rows = out.k_i8 + kv_head_ * out.seq_len * d;
    for (int64_t j = 0; j < length_; ++j) Quantize(Key(j), scale, rows + j * d);
    std::memset(rows + length_ * d, 0, (out.seq_len - length_) * d);
  }

  void WriteQueries(const EstimateInputs& out, int64_t head, float scale) {
    const int64_t d = in_.op.head_dim, n_valid = in_.chunk.n_valid;
    int8_t* rows = out.q_i8 + head * in_.time * d;
    for (int64_t t = 0; t < n_valid; ++t) Quantize(Query(head, t), scale, rows + t * d);
    std::memset(rows + n_valid * d, 0, (in_.time - n_valid) * d);
  }

  const ChunkInputs& in_;
  const Plan& plan_;
  const KernelTable& kernels_;
  const KvView view_;
  const int64_t kv_head_;
  const int64_t length_;
  alignas(kAlignment) float row_[PaddedFloats(kMaxHeadDim)];
  alignas(kAlignment) float no_centre_[PaddedFloats(kMaxHeadDim)] = {};
  int64_t clamped_ = 0;
  int64_t outside_ = 0;
};

}  // namespace

void WriteEstimateInputs(const ChunkInputs& in, const EstimateInputs& out, const Plan* plan, const KernelTable& kernels,
                         const KvPages& pages, ThreadPool* pool) {
  const OpOptions& op = in.op;
  std::fill_n(out.buckets, op.num_heads, 0);  // of the rank-invariant scales
  *out.clamped = *out.outside = 0;
  if (plan == nullptr) {
    std::memset(out.q_i8, 0, op.num_heads * in.time * op.head_dim);
    std::memset(out.k_i8, 0, op.num_kv_heads * out.seq_len * op.head_dim);
    return;
  }
  std::atomic<int64_t> clamped{0}, outside{0};
  const bool may_share = in.chunk.end() >= kRowsWorthSharing;
  pool->ParallelFor(op.num_kv_heads, may_share, [&](ThreadPool::Items* items) {
    for (int64_t head; items->Take(&head);) {
      if (out.scales == Scales::kRankInvariant) {
        QuantizeQueries(in, *plan, int(head), out.q_i8);
        CopyKeys(in, pages, int(head), out.seq_len, out.k_i8);
        continue;
      }
      GridHead grid_head(in, *plan, kernels, pages, int(head));
      grid_head.Write(out);
      clamped += grid_head.clamped();
      outside += grid_head.outside();
    }
  });
  *out.clamped = clamped;
  *out.outside = outside;
}

}  // namespace shadow
