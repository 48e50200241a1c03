#include "int8_weights.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "int8_scores.h"
#include "magnitude.h"

namespace shadow {
namespace {

// Weights are taken relative to the best score of a row's first page, where its attention sink is, so that they need
// not wait for the last page. If another is so much better that they grow beyond this, they are made again.
constexpr float kLargestSum = 1.2676506e30f;  // 2^100

int64_t WholePages(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

int Skipped(int sinks, int64_t page) { return int(std::clamp<int64_t>(sinks - page * kPageRows, 0, kPageRows)); }

RowWeights Reserve(int64_t count, int64_t longest, Scratch* scratch) {
  RowWeights w{};
  w.pages = WholePages(longest);
  w.stride = w.pages * kPageRows;
  w.weights = reinterpret_cast<float*>(scratch->scores.Reserve(count * w.stride));
  w.sums = scratch->sums.Reserve(count * w.pages);
  w.mass = scratch->mass.Reserve(count);
  std::fill(w.mass, w.mass + count, 0.0f);
  return w;
}

// Weighs rows [begin, end) of a tile.
class Weigher {
 public:
  Weigher(const TileRows& rows, int64_t begin, int64_t end, int sinks, Scratch* scratch)
      : rows_(rows), begin_(begin), count_(end - begin), sinks_(sinks), scratch_(scratch) {}

  RowWeights Run() {
    QuantizeRows(rows_, begin_, begin_ + count_, scratch_);
    w_ = Reserve(count_, rows_.Causal(begin_ + count_ - 1), scratch_);
    scratch_->page_scores.Reserve(count_ * kPageRows);
    scratch_->seen.Reserve(count_);
    float* factor = scratch_->weight_factor.Reserve(count_);
    for (int64_t r = 0; r < count_; ++r) factor[r] = WeightFactor(scratch_->step.data()[begin_ + r]);
    scratch_->reference.Reserve(count_);
    if (MayLeaveOut(rows_, begin_ + count_)) {
      w_.scored = ChoosePages(rows_, begin_, begin_ + count_, scratch_);
      WeighSome();
    } else {
      WeighAll();
    }
    for (int64_t r = 0; r < count_; ++r) {
      const float* weights = w_.weights + r * w_.stride;
      const int64_t sinks = std::min<int64_t>(sinks_, rows_.Causal(begin_ + r));
      if (!(std::accumulate(weights, weights + sinks, w_.mass[r]) <= kLargestSum)) WeighAgain(r);
    }
    return w_;
  }

 private:
  int64_t Seen(int64_t r, int64_t page) const {
    return std::min<int64_t>(kPageRows, rows_.Causal(begin_ + r) - page * kPageRows);
  }

  void WeighAll() {
    int64_t first = 0;
    for (int64_t page = 0; page < w_.pages; ++page) {
      while (rows_.Causal(begin_ + first) <= page * kPageRows) ++first;  // rows that end before this page
      Score(page, first, count_);
      if (page == 0) SetReferences();
      WeighPage(page, first, count_);
    }
  }

  // Every page for the rows that score it.
  void WeighSome() {
    uint64_t* scorers = scratch_->scorers.Reserve(w_.scored.words * 64);
    for (int64_t word = 0; word < w_.scored.words; ++word) {
      uint64_t* of_word = scorers + word * 64;
      std::fill_n(of_word, 64, uint64_t{0});
      for (int64_t r = 0; r < count_; ++r) of_word[r] = w_.scored.of(r)[word];
      TransposeBits(of_word);
    }
    for (int64_t page = 0; page < w_.pages; ++page) {
      const int some = List(scorers[page]);
      if (some == 0) continue;
      Score(page, {scratch_->q_i8.data(), scratch_->q_sum.data(), some, scratch_->at.data()}, 0);
      if (page == 0) SetReferences();
      WeighSomeOf(page, some);
    }
  }

  // Lists the rows of a set in scratch->at; returns how many.
  int List(uint64_t set) {
    int32_t* at = scratch_->at.Reserve(count_);
    int some = 0;
    for (; set != 0; set &= set - 1) at[some++] = __builtin_ctzll(set);
    return some;
  }

  void WeighSomeOf(int64_t page, int some) {
    const int32_t* at = scratch_->at.data();
    int32_t* seen = nullptr;
    if (Seen(at[0], page) < kPageRows) {
      seen = scratch_->seen.data();
      for (int i = 0; i < some; ++i) seen[at[i]] = int32_t(Seen(at[i], page));
    }
    rows_.job().kernels.weigh_int32({scratch_->page_scores.data(), some, scratch_->reference.data(),
                                     scratch_->weight_factor.data(), seen, Skipped(sinks_, page),
                                     w_.weights + page * kPageRows, w_.stride, w_.sums + page, w_.pages, w_.mass, at});
  }

  // Into page_scores, from row `first` of them on.
  void Score(int64_t page, const QueryRows& rows, int64_t first) {
    rows_.job().kernels.estimate(rows, rows_.view().pages[page].k_u8, PaddedBytes(rows_.job().op.head_dim),
                                 scratch_->page_scores.data() + first * kPageRows, kPageRows);
  }

  // Of rows [first, last).
  void Score(int64_t page, int64_t first, int64_t last) {
    const int8_t* q = scratch_->q_i8.data() + first * PaddedBytes(rows_.job().op.head_dim);
    Score(page, {q, scratch_->q_sum.data() + first, int(last - first)}, first);
  }

  void SetReferences() {
    for (int64_t r = 0; r < count_; ++r) {
      const int32_t* scores = scratch_->page_scores.data() + r * kPageRows;
      scratch_->reference.data()[r] = Largest(scores, Seen(r, 0));
    }
  }

  void WeighPage(int64_t page, int64_t first, int64_t last) {
    int32_t* seen = nullptr;
    if (Seen(first, page) < kPageRows) {
      seen = scratch_->seen.data() + first;
      for (int64_t r = first; r < last; ++r) scratch_->seen.data()[r] = int32_t(Seen(r, page));
    }
    rows_.job().kernels.weigh_int32({scratch_->page_scores.data() + first * kPageRows, int(last - first),
                                     scratch_->reference.data() + first, scratch_->weight_factor.data() + first, seen,
                                     Skipped(sinks_, page), w_.weights + first * w_.stride + page * kPageRows,
                                     w_.stride, w_.sums + first * w_.pages + page, w_.pages, w_.mass + first});
  }

  // One row, relative to its best score.
  void WeighAgain(int64_t r) {
    const int64_t pages = WholePages(rows_.Causal(begin_ + r));
    int32_t best = scratch_->reference.data()[r];
    for (int64_t page = 0; page < pages; ++page) {
      if (!w_.scored.has(r, page)) continue;
      Score(page, r, r + 1);
      const int32_t* scores = scratch_->page_scores.data() + r * kPageRows;
      best = std::max(best, Largest(scores, Seen(r, page)));
    }
    scratch_->reference.data()[r] = best;
    w_.mass[r] = 0;
    for (int64_t page = 0; page < pages; ++page) {
      if (!w_.scored.has(r, page)) continue;
      Score(page, r, r + 1);
      WeighPage(page, r, r + 1);
    }
  }

  const TileRows& rows_;
  const int64_t begin_, count_;
  const int sinks_;
  Scratch* scratch_;
  RowWeights w_{};
};

}  // namespace

RowWeights WeighInt8(const TileRows& rows, int64_t begin, int64_t end, int sinks, Scratch* scratch) {
  return Weigher(rows, begin, end, sinks, scratch).Run();
}

RowWeights WeighGraphScores(const KernelTable& kernels, const GraphRow* rows, int count, int sinks, Scratch* scratch) {
  const RowWeights w = Reserve(count, rows[count - 1].n, scratch);
  int8_t* best = scratch->best.Reserve(count);
  float* factor = scratch->weight_factor.Reserve(count);
  int32_t* seen = scratch->seen.Reserve(count);
  int8_t* scores = scratch->page_scores_i8.Reserve(int64_t{count} * kPageRows);
  for (int r = 0; r < count; ++r) {
    best[r] = rows[r].best;
    factor[r] = WeightFactor(rows[r].step);
  }
  int first = 0;
  for (int64_t page = 0; page < w.pages; ++page) {
    while (rows[first].n <= page * kPageRows) ++first;  // rows that end before this page
    const bool all_seen = rows[first].n >= (page + 1) * kPageRows;
    for (int r = first; r < count; ++r) {
      int8_t* of_page = scores + r * kPageRows;
      seen[r] = int32_t(std::min<int64_t>(kPageRows, rows[r].n - page * kPageRows));
      std::memcpy(of_page, rows[r].scores + page * kPageRows, size_t(seen[r]));
      std::memset(of_page + seen[r], rows[r].best, size_t(kPageRows - seen[r]));  // what lies behind is not read
    }
    kernels.weigh_int8({scores + first * kPageRows, count - first, best + first, factor + first,
                        all_seen ? nullptr : seen + first, Skipped(sinks, page),
                        w.weights + first * w.stride + page * kPageRows, w.stride, w.sums + first * w.pages + page,
                        w.pages, w.mass + first});
  }
  return w;
}

}  // namespace shadow
