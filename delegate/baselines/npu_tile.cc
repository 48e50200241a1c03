#include "baselines/npu_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/int8_scores.h"
#include "attention/softmax_weights.h"
#include "base/magnitude.h"
#include "kernels/quantize/quantize.h"

namespace shadow {
namespace {

constexpr float kLargest = 127.0f;
constexpr float kProbabilities = 256.0f;  // a softmax output is worth 1 / 256

// How the memory of a page is divided.
template <typename Byte>
struct NpuPage {
  NpuPage(Byte* memory, int head_dim)
      : k_u8(memory),
        v_u8(memory + AlignUp(PaddedBytes(head_dim) * kPageRows)),
        v_sums(reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const int32_t, int32_t>*>(
            v_u8 + PackedValueBytes(head_dim))) {}
  Byte* k_u8;                                                                 // as in KvPage
  Byte* v_u8;                                                                 // [PackedValueBytes(d)]
  std::conditional_t<std::is_const_v<Byte>, const int32_t, int32_t>* v_sums;  // of every channel of v_u8, without 128
};

// Half to even, saturating. The last bit of what is added and taken off again is worth one.
float Saturate(float x, float low, float high) {
  const float clamped = x < low ? low : (x > high ? high : x);
  return (clamped + 12582912.0f) - 12582912.0f;
}

void PackKeys(const AttentionJob& job, const KvView& view, int64_t page, uint8_t* k_u8, Scratch* scratch) {
  const int d = job.op().head_dim, padded = PaddedFloats(d);
  const float inverse = kLargest / job.plan->static_ranges(job.chunk().layer).k;
  int8_t* key = scratch->key.Reserve(AlignUp(PaddedBytes(d)));
  float* row = scratch->prefix.Reserve(2 * padded);
  float* no_centre = row + padded;
  std::fill(no_centre, no_centre + padded, 0.0f);
  for (int i = 0; i < kPageRows; ++i) {
    std::fill(row, row + padded, 0.0f);
    job.kernels.of(view.type).sum_values(view.pages[page].k, i, i + 1, d, row);  // of one row: in float32
    job.kernels.quantize_key(row, no_centre, inverse, d, key);
    PackKey(key, d, i, k_u8);
  }
}

void SumChannels(const uint8_t* v_u8, int head_dim, int32_t* sums) {
  for (int block = 0; block < PackedValueBlocks(head_dim); ++block, sums += kPackedChannels) {
    std::fill(sums, sums + kPackedChannels, 0);
    for (int i = 0; i < kPageRows; i += 4, v_u8 += 4 * kPackedChannels) {
      for (int c = 0; c < kPackedChannels; ++c) {
        for (int k = 0; k < 4; ++k) sums[c] += v_u8[c * 4 + k] - 128;
      }
    }
  }
}

}  // namespace

Status CheckStaticRanges(const Plan& plan, int layer) {
  const StaticRanges ranges = plan.static_ranges(layer);
  for (float range : {ranges.q, ranges.k, ranges.v, ranges.score, ranges.out}) {
    // Far from what a float cannot invert.
    if (!(range > 1e-30f && range < 1e30f)) {
      return Status::Error(
          "mode npu_full needs static ranges: run `shadowattn calibrate BUNDLE` (of layer %d the plan holds q %g, k "
          "%g, v %g, score %g, out %g)",
          layer, double(ranges.q), double(ranges.k), double(ranges.v), double(ranges.score), double(ranges.out));
    }
  }
  return Status::Ok();
}

size_t NpuPageBytes(int head_dim) {
  return AlignUp(PaddedBytes(head_dim) * kPageRows) + PackedValueBytes(head_dim) +
         PackedValueBlocks(head_dim) * kPackedChannels * sizeof(int32_t);
}

void MakeNpuPage(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch) {
  const int d = job.op().head_dim, padded = PaddedFloats(d);
  const KvView view = job.pages.view(job.chunk().layer, kv_head);
  const NpuPage<uint8_t> made(memory, d);
  PackKeys(job, view, page, made.k_u8, scratch);
  float* inverse = scratch->prefix.Reserve(padded);
  std::fill(inverse, inverse + d, kLargest / job.plan->static_ranges(job.chunk().layer).v);
  std::fill(inverse + d, inverse + padded, 0.0f);
  job.kernels.of(view.type).pack_values(view.pages[page].v, d, inverse, made.v_u8);
  SumChannels(made.v_u8, d, made.v_sums);
}

NpuTile::NpuTile(const TileRows& rows, Scratch* scratch)
    : rows_(rows),
      scratch_(scratch),
      ranges_(rows.job().plan->static_ranges(rows.job().chunk().layer)),
      wide_(PackedValueBlocks(rows.job().op().head_dim) * kPackedChannels) {}

void NpuTile::Run(Statistics* statistics) {
  StageClock clock;
  const int64_t open = job().chunk().end() / kPageRows;  // nothing is derived from the page that is not full
  uint8_t* memory = scratch_->open_page.Reserve(NpuPageBytes(job().op().head_dim));
  if (Pages(rows_.count() - 1) > open) MakeNpuPage(job(), rows_.kv_head(), open, memory, scratch_);
  for (begin_ = 0; begin_ < rows_.count(); begin_ = end_) {
    end_ = std::min(rows_.count(), begin_ + RowsScored(rows_));
    Score();
    statistics->seconds_estimate += clock.Lap();
    const int64_t size = count() * Pages(end_ - 1);
    scratch_->weights_i8.Reserve(size * kPageRows);
    scratch_->weight_sums.Reserve(size);
    for (int64_t r = begin_; r < end_; ++r) Softmax(r);
    AddValues();
    Store();
    statistics->seconds_attend += clock.Lap();
  }
  for (int64_t r = 0; r < rows_.count(); ++r) statistics->value_rows_read += rows_.Causal(r);
}

const uint8_t* NpuTile::Page(int64_t page) const {
  if (page == job().chunk().end() / kPageRows) return scratch_->open_page.data();
  return job().pages.derived().page(job().chunk().layer, rows_.kv_head(), page);
}

void NpuTile::QuantizeQueries() {
  const int d = job().op().head_dim, d_padded = PaddedBytes(d), padded = PaddedFloats(d);
  int8_t* q_i8 = scratch_->q_i8.Reserve(count() * d_padded);
  int32_t* q_sum = scratch_->q_sum.Reserve(count());
  float* no_centre = scratch_->prefix.Reserve(padded);
  std::fill(no_centre, no_centre + padded, 0.0f);
  std::memset(q_i8, 0, count() * d_padded);
  for (int64_t r = 0; r < count(); ++r) {
    int8_t* row = q_i8 + r * d_padded;
    job().kernels.quantize_key(rows_.Query(begin_ + r), no_centre, kLargest / ranges_.q, d, row);
    q_sum[r] = 0;
    for (int c = 0; c < d; ++c) q_sum[r] += row[c];
  }
}

void NpuTile::Score() {
  const int d = job().op().head_dim, d_padded = PaddedBytes(d);
  stride_ = ScoreStride(rows_, end_);
  scratch_->npu_scores.Reserve(count() * stride_);
  QuantizeQueries();
  int64_t first = 0;
  for (int64_t page = 0; page < Pages(end_ - 1); ++page) {
    while (Pages(begin_ + first) <= page) ++first;  // rows that end before this page
    job().kernels.estimate(
        {scratch_->q_i8.data() + first * d_padded, scratch_->q_sum.data() + first, int(count() - first)},
        NpuPage<const uint8_t>(Page(page), d).k_u8, d_padded, Scores(begin_ + first) + page * kPageRows, stride_);
  }
}

// Turns a row's scores into INT8 logits, and these into probabilities: uint8, less 128, as a graph's INT8 softmax puts
// them out.
void NpuTile::Softmax(int64_t r) {
  const auto n = int(rows_.Causal(r));
  const int32_t* scores = Scores(r);
  int8_t* logits = scratch_->logits.Reserve(stride_);
  const auto multiplier = float(double(ranges_.q) * double(ranges_.k) / (double(kLargest) * double(ranges_.score)));
  for (int j = 0; j < n; ++j) logits[j] = int8_t(Saturate(float(scores[j]) * multiplier, -128.0f, 127.0f));
  const float step = job().op().softmax_scale * (ranges_.score / kLargest);
  const GraphRow row{logits, n, Largest(logits, n), step};
  const RowWeights weights = SoftmaxOfGraphScores(job().kernels, &row, 1, {}, scratch_);
  const float factor = kProbabilities / weights.mass[0];
  for (int64_t page = 0; page < Pages(r); ++page) {
    const int64_t i = page * count() + r - begin_;
    int8_t* p = scratch_->weights_i8.data() + i * kPageRows;
    const float* w = weights.page(0, page);  // zeros from n on
    int32_t sum = 0;
    for (int j = 0; j < kPageRows; ++j) {
      p[j] = int8_t(Saturate(w[j] * factor, 0.0f, 255.0f) - 128.0f);
      sum += p[j];
    }
    scratch_->weight_sums.data()[i] = sum;
  }
}

void NpuTile::AddValues() {
  int32_t* sums = scratch_->value_sums.Reserve(count() * wide_);
  std::fill(sums, sums + count() * wide_, 0);
  scratch_->products.Reserve(count() * kPackedChannels);
  int64_t first = 0;
  for (int64_t page = 0; page < Pages(end_ - 1); ++page) {
    while (Pages(begin_ + first) <= page) ++first;
    AddPage(page, first);
  }
}

// Of rows begin_ + first .. end_ - 1. The 128 that the probabilities lack is added for all 64 positions, also those
// that a row does not see: there it makes -128 zero.
void NpuTile::AddPage(int64_t page, int64_t first) {
  const NpuPage<const uint8_t> values(Page(page), job().op().head_dim);
  const int64_t i = page * count() + first;
  const auto rows = int(count() - first);
  int32_t* products = scratch_->products.data();
  for (int64_t block = 0; block < wide_; block += kPackedChannels) {
    job().kernels.estimate({scratch_->weights_i8.data() + i * kPageRows, scratch_->weight_sums.data() + i, rows},
                           values.v_u8 + block * kPageRows, kPageRows, products, kPackedChannels);
    for (int r = 0; r < rows; ++r) {
      int32_t* sums = scratch_->value_sums.data() + (first + r) * wide_ + block;
      const int32_t* more = products + r * kPackedChannels;
      for (int c = 0; c < kPackedChannels; ++c) sums[c] += more[c] + 128 * values.v_sums[block + c];
    }
  }
}

void NpuTile::Store() {
  const auto multiplier = float(double(ranges_.v) / (double(kProbabilities) * double(ranges_.out)));
  const float step = ranges_.out / kLargest;
  for (int64_t r = 0; r < count(); ++r) {
    const int32_t* sums = scratch_->value_sums.data() + r * wide_;
    float* out = rows_.Out(begin_ + r);
    for (int c = 0; c < job().op().head_dim; ++c)
      out[c] = step * Saturate(float(sums[c]) * multiplier, -128.0f, 127.0f);
  }
}

// `first` is 0: the mode leaves no rows to others.
void RunNpuTile(const TileRows& rows, int64_t, Scratch* scratch, Statistics* statistics) {
  NpuTile(rows, scratch).Run(statistics);
}

}  // namespace shadow
