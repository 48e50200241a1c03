#include "attention/int8_tile.h"

#include <algorithm>
#include <cfloat>
#include <numeric>

#include "attention/int8_scores.h"

namespace shadow {
namespace {

// How the memory of a page is divided.
struct Int8Values {
  Int8Values(uint8_t* memory, int head_dim)
      : v_u8(memory), steps(reinterpret_cast<float*>(memory + PackedValueBytes(head_dim))) {}
  uint8_t* v_u8;  // [PackedValueBytes(d)]
  float* steps;   // [PaddedFloats(d)]: what one unit is worth
};

}  // namespace

size_t Int8ValuesBytes(int head_dim) {
  return AlignUp(PackedValueBytes(head_dim) + PaddedFloats(head_dim) * sizeof(float));
}

void MakeInt8Values(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch) {
  const int d = job.op().head_dim;
  const KvView view = job.pages.view(job.chunk().layer, kv_head);
  const TypedKernels& kernels = job.kernels.of(view.type);
  const Int8Values values(memory, d);
  float* inverse = scratch->prefix.Reserve(PaddedFloats(d));
  kernels.largest_values(view.pages[page].v, d, values.steps);
  for (int c = 0; c < PaddedFloats(d); ++c) {
    inverse[c] = 127.0f / values.steps[c];
    if (!(inverse[c] <= FLT_MAX)) inverse[c] = 0;  // all zero, or so small that the quotient overflows
    values.steps[c] /= 127.0f;
  }
  kernels.pack_values(view.pages[page].v, d, inverse, values.v_u8);
}

void Int8Tile::Run(Statistics* statistics) {
  StageClock clock;
  for (begin_ = 0; begin_ < rows_.count(); begin_ = end_) {
    end_ = std::min(rows_.count(), begin_ + RowsScored(rows_));
    w_ = SoftmaxInt8(rows_, begin_, end_, {}, scratch_);
    statistics->seconds_estimate += clock.Lap();
    QuantizeWeights();
    AddFullPages();
    AddOpenPages();
    statistics->seconds_attend += clock.Lap();
  }
  for (int64_t r = 0; r < rows_.count(); ++r) statistics->value_rows_read += rows_.Causal(r);
}

// Those of full pages, to uint7.
void Int8Tile::QuantizeWeights() {
  const int64_t size = count() * FullPages(end_ - 1);
  int8_t* p = scratch_->weights_i8.Reserve(size * kPageRows);
  float* steps = scratch_->weight_steps.Reserve(size);
  float* factor = scratch_->factor.Reserve(count());
  for (int64_t r = begin_; r < end_; ++r) {
    factor[r - begin_] = 1.0f / w_.mass[r - begin_];
    job().kernels.quantize_weights(
        {w_.page(r - begin_, 0), -kPageRows, int(FullPages(r)), p, steps, count(), r - begin_});
  }
}

void Int8Tile::AddFullPages() {
  const int64_t padded = PaddedFloats(job().op().head_dim);
  float* start = scratch_->start.Reserve(count() * padded);
  std::fill(start, start + count() * padded, 0.0f);
  scratch_->products.Reserve(count() * kPackedChannels);
  int64_t first = 0;
  for (int64_t page = 0; page < FullPages(end_ - 1); ++page) {
    while (FullPages(begin_ + first) <= page) ++first;  // rows that do not see all of it
    AddPage(page, first);
  }
}

// Of rows begin_ + first .. end_ - 1.
void Int8Tile::AddPage(int64_t page, int64_t first) {
  const int d = job().op().head_dim, padded = PaddedFloats(d);
  const Int8Values values(job().pages.derived().page(job().chunk().layer, rows_.kv_head(), page), d);
  const int64_t i = page * count() + first;
  const auto rows = int(count() - first);
  int32_t* products = scratch_->products.data();
  for (int block = 0; block < PackedValueBlocks(d); ++block) {
    const int c = block * kPackedChannels;
    job().kernels.estimate_positive({scratch_->weights_i8.data() + i * kPageRows, nullptr, rows},
                                    values.v_u8 + c * kPageRows, kPageRows, products, kPackedChannels);
    job().kernels.add_products({products, rows, std::min(kPackedChannels, padded - c),
                                scratch_->weight_steps.data() + i, values.steps + c,
                                scratch_->start.data() + first * padded + c, padded});
  }
}

// Adds the positions after a row's full pages, and divides by the sum of the weights.
void Int8Tile::AddOpenPages() {
  const int d = job().op().head_dim;
  const int64_t padded = PaddedFloats(d);
  const KvView view = rows_.view();
  int32_t* positions = scratch_->selected.Reserve(2 * kPageRows);  // of every row the first ones of this list
  std::iota(positions, positions + 2 * kPageRows, 0);
  int32_t* counts = scratch_->counts.Reserve(count());
  float** out = scratch_->out.Reserve(count());
  for (int64_t r = begin_; r < end_; ++r) {
    counts[r - begin_] = int32_t(rows_.Causal(r) % kPageRows);
    out[r - begin_] = rows_.Out(r);
  }
  for (int64_t first = begin_, last; first < end_; first = last) {
    const int64_t page = FullPages(first), i = first - begin_;
    for (last = first; last < end_ && FullPages(last) == page;) ++last;
    const Selection open{positions, 0, counts + i, int(last - first)};
    const ValueTile tile{open,
                         w_.weights + i * w_.stride,  // the open page is a row's first block
                         w_.stride,
                         nullptr,
                         0,
                         nullptr,
                         0,
                         scratch_->start.data() + i * padded,
                         scratch_->factor.data() + i,
                         out + i};
    job().kernels.of(view.type).add_values(tile, {view.pages + page, d, view.type});
  }
}

// `first` is 0: the mode leaves no rows to others.
void RunInt8Tile(const TileRows& rows, int64_t, Scratch* scratch, Statistics* statistics) {
  Int8Tile(rows, scratch).Run(statistics);
}

}  // namespace shadow
