#include "attention/softmax_weights.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "attention/int8_scores.h"
#include "base/magnitude.h"

namespace shadow {
namespace {

// Weights are relative to the best score of a row's last page, so that they need not wait for the other pages. Where
// the score of another is so much better that their sum exceeds this, they are computed again, relative to the best of
// all.
constexpr float kLargestSum = 1.2676506e30f;  // 2^100
// A mass that is added up in another order may be smaller by this factor.
constexpr float kMinOfMass = 0.999f;

// With fewer rows, scoring a page takes less time than fetching the keys of the next one.
constexpr int64_t kRowsWorthPrefetching = 12;

int64_t WholePages(int64_t n) { return (n + kPageRows - 1) / kPageRows; }

// How many of a page's positions are sinks.
int SinksOn(int sinks, int64_t page) { return int(std::clamp<int64_t>(sinks - page * kPageRows, 0, kPageRows)); }

RowWeights Reserve(int64_t count, int64_t longest, Scratch* scratch) {
  RowWeights w{};
  w.rows = count;
  w.pages = WholePages(longest);
  w.stride = (w.pages + 1) * kPageRows;
  w.weights = reinterpret_cast<float*>(scratch->scores.Reserve(count * w.stride));
  w.blocks = scratch->blocks.Reserve(count);
  w.listed = scratch->listed.Reserve(count * (w.pages + 1));
  w.sums = scratch->sums.Reserve(w.pages * count);
  w.mass = scratch->mass.Reserve(count);
  return w;
}

// The state of a row before its last page.
template <class S>
SoftmaxRow<S> Begin(const RowWeights& w, int64_t r, S reference, float factor) {
  return {reference, factor, 0.0f, 0.0f, w.weights + r * w.stride, w.listed + r * (w.pages + 1)};
}

// After the first page: counts the blocks, and adds up each row's sums from its first page on.
template <class S>
void Finish(const RowWeights& w, const SoftmaxRow<S>* rows) {
  for (int64_t r = 0; r < w.rows; ++r) w.blocks[r] = int32_t(rows[r].page - (w.listed + r * (w.pages + 1)));
  std::fill(w.mass, w.mass + w.rows, 0.0f);
  for (int64_t page = 0; page < w.pages; ++page) {
    for (int64_t r = 0; r < w.rows; ++r) w.mass[r] += w.sums[page * w.rows + r];
  }
}

// Whether it pays to look at the masses again, once `done` pages are done.
bool IsDue(const SoftmaxRule& rule, int64_t done) {
  return rule.thresholds != nullptr && ((done & (done - 1)) == 0 || done % 16 == 0);
}

// The weight that a position needs to be selected, as far as the row's mass is known. n: visible positions of row r;
// `page` comes next.
template <class S>
void SetCutoff(const SoftmaxRule& rule, int64_t n, int64_t page, int64_t r, SoftmaxRow<S>* row) {
  const bool forced = (page + 1) * kPageRows > n - std::max(rule.latest, 1);
  row->cutoff = forced ? 0.0f : rule.thresholds[r] * row->mass * kMinOfMass;
}

// Pages that hold attention sinks are listed.
template <class S>
void ListSinks(const SoftmaxRule& rule, int64_t page, int64_t count, SoftmaxRow<S>* rows) {
  for (int64_t r = 0; r < count && SinksOn(rule.sinks, page) > 0; ++r) rows[r].cutoff = 0;
}

// The softmax weights of rows [begin, end) of a tile.
class TileSoftmax {
 public:
  TileSoftmax(const TileRows& rows, int64_t begin, int64_t end, const SoftmaxRule& rule, Scratch* scratch)
      : rows_(rows),
        begin_(begin),
        count_(end - begin),
        rule_(rule),
        scratch_(scratch),
        w_(Reserve(count_, rows.Causal(end - 1), scratch)),
        softmax_rows_(scratch->softmax_rows.Reserve(count_)),
        n_(scratch->lengths.Reserve(count_)) {
    for (int64_t r = 0; r < count_; ++r) n_[r] = rows.Causal(begin + r);
  }

  RowWeights Run() {
    QuantizeRows(rows_, begin_, begin_ + count_, scratch_);
    scratch_->page_scores.Reserve(count_ * kPageRows);
    scratch_->visible.Reserve(count_);
    for (int64_t r = 0; r < count_; ++r) {
      softmax_rows_[r] = Begin<int32_t>(w_, r, 0, WeightFactor(scratch_->step.data()[begin_ + r]));
    }
    if (MaySkipPages(rows_, begin_ + count_)) {
      w_.scored = SelectPages(rows_, begin_, begin_ + count_, scratch_);
      SoftmaxSome();
    } else {
      SoftmaxAll();
    }
    Finish(w_, softmax_rows_);
    bool again = false;
    for (int64_t r = 0; r < count_; ++r) {
      const int64_t sinks = std::min<int64_t>(rule_.sinks, n_[r]);
      if (w_.mass[r] + w_.SinkMass(r, sinks) <= kLargestSum) continue;
      RecomputeSoftmax(r);
      again = true;
    }
    if (again) Finish(w_, softmax_rows_);
    for (int64_t r = 0; r < count_ && w_.scored.bits != nullptr; ++r) {
      SampleSkipLoss(rows_, w_.scored,
                     {begin_ + r, r, w_.sums + r, count_, w_.mass[r], scratch_->step.data()[begin_ + r]});
    }
    return w_;
  }

 private:
  int64_t Visible(int64_t r, int64_t page) const { return std::min<int64_t>(kPageRows, n_[r] - page * kPageRows); }
  int64_t OwnPage(int64_t r) const { return (n_[r] - 1) / kPageRows; }

  bool Due(int64_t page) const { return IsDue(rule_, w_.pages - page); }

  void SoftmaxAll() {
    int64_t first = count_;
    for (int64_t page = w_.pages - 1; page >= 0; --page) {
      const int64_t begun = first;
      while (first > 0 && OwnPage(first - 1) >= page) --first;
      std::fill_n(w_.sums + page * count_, first, 0.0f);
      Prefetch(page - 1);
      Score(page, first, count_);
      ListSinks(rule_, page, count_, softmax_rows_);
      for (int64_t r = first; r < begun; ++r) SetReference(r, page, scratch_->page_scores.data() + r * kPageRows);
      SoftmaxPage(page, first, count_);
      if (!Due(page)) continue;
      for (int64_t r = first; r < count_; ++r) SetCutoff(rule_, n_[r], page - 1, r, softmax_rows_ + r);
    }
  }

  // Each page for the rows that score it.
  void SoftmaxSome() {
    uint64_t* scorers = scratch_->scorers.Reserve(w_.scored.words * 64);
    for (int64_t word = 0; word < w_.scored.words; ++word) {
      uint64_t* of_word = scorers + word * 64;
      std::fill_n(of_word, 64, uint64_t{0});
      for (int64_t r = 0; r < count_; ++r) of_word[r] = w_.scored.of(r)[word];
      TransposeBits(of_word);
    }
    std::fill_n(w_.sums, w_.pages * count_, 0.0f);
    for (int64_t page = w_.pages - 1; page >= 0; --page) {
      const int some = List(scorers[page]);
      if (some == 0) continue;
      Prefetch(PageBefore(page, scorers));
      Score(page, {scratch_->q_i8.data(), scratch_->q_sum.data(), some, scratch_->at.data()}, 0);
      ListSinks(rule_, page, count_, softmax_rows_);
      SoftmaxSomeOf(page, some);
      if (!Due(page)) continue;
      for (int64_t r = 0; r < count_; ++r) SetCutoff(rule_, n_[r], page - 1, r, softmax_rows_ + r);
    }
  }

  // The next page that any row scores; negative if no row scores another.
  static int64_t PageBefore(int64_t page, const uint64_t* scorers) {
    do {
      --page;
    } while (page >= 0 && scorers[page] == 0);
    return page;
  }

  // Lists the rows of a set in scratch->at; returns how many.
  int List(uint64_t set) { return rows_.job().kernels.list_bits(set, scratch_->at.Reserve(kListRoom)); }

  void SoftmaxSomeOf(int64_t page, int some) {
    const int32_t* at = scratch_->at.data();
    int32_t* visible = nullptr;
    if (Visible(at[0], page) < kPageRows) {
      visible = scratch_->visible.data();
      for (int i = 0; i < some; ++i) visible[at[i]] = int32_t(Visible(at[i], page));
    }
    for (int i = 0; i < some && page >= OwnPage(0); ++i) {
      if (OwnPage(at[i]) == page) SetReference(at[i], page, scratch_->page_scores.data() + i * kPageRows);
    }
    rows_.job().kernels.softmax_int32({scratch_->page_scores.data(), some, softmax_rows_, visible,
                                       SinksOn(rule_.sinks, page), int32_t(page), w_.sums + page * count_, at});
  }

  // Fetches a page that is needed soon into the second-level cache: the hardware does not look beyond the one that is
  // read.
  void Prefetch(int64_t page) const {
    if (page < 0 || count_ >= kRowsWorthPrefetching) return;
    const uint8_t* keys = rows_.view().pages[page].k_u8;
    for (int i = 0; i < PaddedBytes(rows_.job().op().head_dim) * kPageRows; i += 64) __builtin_prefetch(keys + i, 0, 2);
  }

  // Into page_scores, from their row `first` on.
  void Score(int64_t page, const QueryRows& rows, int64_t first) {
    rows_.job().kernels.estimate(rows, rows_.view().pages[page].k_u8, PaddedBytes(rows_.job().op().head_dim),
                                 scratch_->page_scores.data() + first * kPageRows, kPageRows);
  }

  // Of rows [first, last).
  void Score(int64_t page, int64_t first, int64_t last) {
    const int8_t* q = scratch_->q_i8.data() + first * PaddedBytes(rows_.job().op().head_dim);
    Score(page, {q, scratch_->q_sum.data() + first, int(last - first)}, first);
  }

  void SetReference(int64_t r, int64_t page, const int32_t* scores) {
    softmax_rows_[r].reference = Largest(scores, Visible(r, page));
  }

  void SoftmaxPage(int64_t page, int64_t first, int64_t last) {
    int32_t* visible = nullptr;
    if (Visible(first, page) < kPageRows) {
      visible = scratch_->visible.data() + first;
      for (int64_t r = first; r < last; ++r) scratch_->visible.data()[r] = int32_t(Visible(r, page));
    }
    rows_.job().kernels.softmax_int32({scratch_->page_scores.data() + first * kPageRows, int(last - first),
                                       softmax_rows_ + first, visible, SinksOn(rule_.sinks, page), int32_t(page),
                                       w_.sums + page * count_ + first});
  }

  // Of one row, relative to its best score.
  void RecomputeSoftmax(int64_t r) {
    int32_t best = softmax_rows_[r].reference;
    const int32_t* scores = scratch_->page_scores.data() + r * kPageRows;
    for (int64_t page = OwnPage(r); page >= 0; --page) {
      if (!w_.scored.has(r, page)) continue;
      Score(page, r, r + 1);
      best = std::max(best, Largest(scores, Visible(r, page)));
    }
    softmax_rows_[r] = Begin(w_, r, best, softmax_rows_[r].factor);
    for (int64_t page = OwnPage(r); page >= 0; --page) {
      if (!w_.scored.has(r, page)) continue;
      Score(page, r, r + 1);
      SoftmaxPage(page, r, r + 1);
    }
  }

  const TileRows& rows_;
  const int64_t begin_, count_;
  const SoftmaxRule& rule_;
  Scratch* scratch_;
  RowWeights w_;
  SoftmaxRow<int32_t>* softmax_rows_;
  int64_t* n_;  // visible positions of each row
};

}  // namespace

float RowWeights::SinkMass(int64_t row, int64_t sinks) const {
  float sum = 0;
  for (int64_t begin = 0; begin < sinks; begin += kPageRows) {
    const float* of_page = page(row, begin / kPageRows);  // pages with sinks are listed, so they are the last blocks
    sum = std::accumulate(of_page, of_page + std::min(sinks - begin, int64_t{kPageRows}), sum);
  }
  return sum;
}

RowWeights SoftmaxInt8(const TileRows& rows, int64_t begin, int64_t end, const SoftmaxRule& rule, Scratch* scratch) {
  return TileSoftmax(rows, begin, end, rule, scratch).Run();
}

RowWeights SoftmaxOfGraphScores(const KernelTable& kernels, const GraphRow* rows, int count, const SoftmaxRule& rule,
                                Scratch* scratch) {
  const RowWeights w = Reserve(count, rows[count - 1].n, scratch);
  SoftmaxRow<int8_t>* softmax_rows = scratch->softmax_rows_i8.Reserve(count);
  int32_t* visible = scratch->visible.Reserve(count);
  int8_t* scores = scratch->page_scores_i8.Reserve(int64_t{count} * kPageRows);
  for (int r = 0; r < count; ++r) softmax_rows[r] = Begin(w, r, rows[r].best, WeightFactor(rows[r].step));
  int first = count;
  for (int64_t page = w.pages - 1; page >= 0; --page) {
    while (first > 0 && rows[first - 1].n > page * kPageRows) --first;
    const bool all_visible = rows[first].n >= (page + 1) * kPageRows;
    for (int r = first; r < count; ++r) {
      int8_t* of_page = scores + r * kPageRows;
      visible[r] = int32_t(std::min<int64_t>(kPageRows, rows[r].n - page * kPageRows));
      std::memcpy(of_page, rows[r].scores + page * kPageRows, size_t(visible[r]));
      std::memset(of_page + visible[r], rows[r].best,
                  size_t(kPageRows - visible[r]));  // past a row's scores is nothing to read
    }
    std::fill_n(w.sums + page * count, first, 0.0f);
    ListSinks(rule, page, count, softmax_rows);
    kernels.softmax_int8({scores + first * kPageRows, count - first, softmax_rows + first,
                          all_visible ? nullptr : visible + first, SinksOn(rule.sinks, page), int32_t(page),
                          w.sums + page * count + first});
    if (!IsDue(rule, w.pages - page)) continue;
    for (int r = first; r < count; ++r) SetCutoff(rule, rows[r].n, page - 1, r, softmax_rows + r);
  }
  Finish(w, softmax_rows);
  return w;
}

}  // namespace shadow
