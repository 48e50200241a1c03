#include "attention_tile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>

namespace shadow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxTileRows = 96;
constexpr int64_t kScoreBudget = 1 << 17;  // int32 scores at a time: 512 KB, which stay in a second-level cache
constexpr int64_t kSlack = 16;             // select kernels may store this much past their end
// Below this many (row, position) pairs waking another thread costs more than it saves.
constexpr int64_t kPairsWorthSharing = 1 << 13;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

double SecondsSince(Clock::time_point* start) {
  const Clock::time_point now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - *start).count();
  *start = now;
  return seconds;
}

class AttentionTile {
 public:
  AttentionTile(const AttentionJob& job, Scratch* scratch, int kv_head, int64_t row_begin, int64_t row_end)
      : job_(job), scratch_(scratch), kv_head_(kv_head), row_begin_(row_begin), rows_(row_end - row_begin) {}

  void Run(Statistics* statistics);

 private:
  int64_t Time(int64_t r) const { return (row_begin_ + r) / job_.op.group(); }
  int64_t Causal(int64_t r) const { return job_.chunk.position + Time(r) + 1; }
  int64_t Head(int64_t r) const { return int64_t{kv_head_} * job_.op.group() + (row_begin_ + r) % job_.op.group(); }
  const float* Query(int64_t r) const { return job_.q + (Time(r) * job_.op.num_heads + Head(r)) * job_.op.head_dim; }
  float* Out(int64_t r) const { return job_.out + (Time(r) * job_.op.num_heads + Head(r)) * job_.op.head_dim; }
  int64_t K(int64_t r) const { return job_.settings.dense() ? Causal(r) : KeptPositions(job_.settings, Causal(r)); }

  void LoadQueries();
  int64_t RowsScored() const;
  void Estimate(int64_t begin, int64_t end);
  void Select(int64_t begin, int64_t end);
  void SelectRow(int64_t r, const int32_t* scores);
  void AttendSparse(int64_t first);
  void AttendDense(int64_t count);

  const AttentionJob& job_;
  Scratch* scratch_;
  const int kv_head_;
  const int64_t row_begin_;
  const int64_t rows_;
  KvView view_{};
  int64_t q_stride_ = 0;
  int64_t score_stride_ = 0;
  int64_t selected_stride_ = 0;
};

void AttentionTile::Run(Statistics* statistics) {
  Clock::time_point clock = Clock::now();
  view_ = job_.cache.view(job_.chunk.layer, kv_head_);
  // Rows that keep every position need no scores. They come first, since k / causal falls as causal grows.
  int64_t dense = 0;
  while (dense < rows_ && K(dense) == Causal(dense)) ++dense;
  LoadQueries();
  statistics->seconds_attend += SecondsSince(&clock);
  if (dense < rows_) {
    selected_stride_ = RoundUp(K(rows_ - 1) + kSlack, 16);
    scratch_->selected.Reserve(rows_ * selected_stride_);
    for (int64_t begin = dense; begin < rows_; begin += RowsScored()) {
      const int64_t end = std::min(rows_, begin + RowsScored());
      if (job_.scores_i8 == nullptr) Estimate(begin, end);
      statistics->seconds_estimate += SecondsSince(&clock);
      Select(begin, end);
      statistics->seconds_select += SecondsSince(&clock);
    }
    AttendSparse(dense);
  }
  if (dense > 0) AttendDense(dense);
  statistics->seconds_attend += SecondsSince(&clock);
  statistics->rows += rows_;
  for (int64_t r = 0; r < rows_; ++r) {
    statistics->causal_rows += Causal(r);
    statistics->value_rows_read += K(r);
  }
}

void AttentionTile::LoadQueries() {
  const int d = job_.op.head_dim;
  q_stride_ = PaddedFloats(d);
  float* q = scratch_->q.Reserve(rows_ * q_stride_);
  for (int64_t r = 0; r < rows_; ++r) {
    std::memcpy(q + r * q_stride_, Query(r), d * sizeof(float));
    std::fill(q + r * q_stride_ + d, q + (r + 1) * q_stride_, 0.0f);
  }
}

// Rows whose scores are kept at a time: fewer than a tile has where the context is long.
int64_t AttentionTile::RowsScored() const {
  return std::max<int64_t>(8, kScoreBudget / RoundUp(Causal(rows_ - 1), kPageRows));
}

void AttentionTile::Estimate(int64_t begin, int64_t end) {
  const int d = job_.op.head_dim;
  const int d_padded = PaddedBytes(d);
  const int64_t rows = end - begin;
  int8_t* q_i8 = scratch_->q_i8.Reserve(rows * d_padded);
  int32_t* q_sum = scratch_->q_sum.Reserve(rows);
  std::memset(q_i8, 0, rows * d_padded);
  for (int64_t r = 0; r < rows; ++r) {
    q_sum[r] = job_.kernels.quantize_query(Query(begin + r), d, q_i8 + r * d_padded);
  }
  score_stride_ = RoundUp(Causal(end - 1), kPageRows);
  int32_t* scores = scratch_->scores.Reserve(rows * score_stride_);
  int64_t first = 0;
  for (int64_t page = 0; page * kPageRows < Causal(end - 1); ++page) {
    while (Causal(begin + first) <= page * kPageRows) ++first;  // rows that end before this page
    job_.kernels.estimate(q_i8 + first * d_padded, q_sum + first, int(rows - first), view_.pages[page].k_u8, d_padded,
                          scores + first * score_stride_ + page * kPageRows, score_stride_);
  }
}

void AttentionTile::Select(int64_t begin, int64_t end) {
  scratch_->select.Reserve(Causal(end - 1) + 64);
  for (int64_t r = begin; r < end; ++r) SelectRow(r, scratch_->scores.data() + (r - begin) * score_stride_);
}

// scores: of the row, if they were estimated here.
void AttentionTile::SelectRow(int64_t r, const int32_t* scores) {
  const int64_t causal = Causal(r);
  const KeptRanges kept = SplitKept(job_.settings, causal, K(r));
  int32_t* out = scratch_->selected.data() + r * selected_stride_;
  std::iota(out, out + kept.scored_begin, 0);
  out += kept.scored_begin;
  const int n = int(kept.scored_end - kept.scored_begin);
  const auto offset = int32_t(kept.scored_begin);
  if (job_.scores_i8 == nullptr) {
    job_.kernels.select_int32(scores + kept.scored_begin, n, int(kept.scored_k), offset, scratch_->select.data(), out);
  } else {
    // The estimate graph's rows are head-major: g * T + t.
    const int64_t row =
        (int64_t{kv_head_} * job_.op.group() + (row_begin_ + r) % job_.op.group()) * job_.time + Time(r);
    const int8_t* scores = job_.scores_i8 + row * job_.scores_length + kept.scored_begin;
    job_.kernels.select_int8(scores, n, int(kept.scored_k), offset, scratch_->select.data(), out);
  }
  out += kept.scored_k;
  std::iota(out, out + (causal - kept.scored_end), int32_t(kept.scored_end));
}

void AttentionTile::AttendSparse(int64_t first) {
  const auto count = size_t(rows_ - first);
  int32_t* k = scratch_->causal.Reserve(count);
  float** out = scratch_->out.Reserve(count);
  for (int64_t r = first; r < rows_; ++r) {
    k[r - first] = int32_t(K(r));
    out[r - first] = Out(r);
  }
  const int64_t pages = (Causal(rows_ - 1) + kPageRows - 1) / kPageRows;
  float* scratch =
      scratch_->attend.Reserve(AttendSparseScratchFloats(int(count), int(K(rows_ - 1)), int(pages), job_.op.head_dim));
  const SparseTile tile{scratch_->q.data() + first * q_stride_,
                        scratch_->selected.data() + first * selected_stride_,
                        selected_stride_,
                        k,
                        out,
                        int(count),
                        job_.op.softmax_scale};
  job_.kernels.of(view_.type).attend_sparse(tile, view_, scratch);
}

void AttentionTile::AttendDense(int64_t count) {
  int32_t* causal = scratch_->causal.Reserve(count);
  float** out = scratch_->out.Reserve(count);
  for (int64_t r = 0; r < count; ++r) {
    causal[r] = int32_t(Causal(r));
    out[r] = Out(r);
  }
  float* scratch = scratch_->attend.Reserve(AttendDenseScratchFloats(int(count), job_.op.head_dim));
  const DenseTile tile{scratch_->q.data(), causal, out, int(count), job_.op.softmax_scale};
  job_.kernels.of(view_.type).attend_dense(tile, view_, scratch);
}

// Rows per tile: no more than gives every thread an item.
int64_t TileRows(const AttentionJob& job, int64_t rows, int num_threads) {
  int64_t tile = kMaxTileRows;
  const int64_t per_thread = (rows * job.op.num_kv_heads + num_threads - 1) / num_threads;
  tile = std::min(tile, std::max<int64_t>(1, per_thread));
  const int64_t group = job.op.group();
  if (tile > group) tile -= tile % group;  // whole times: their rows have equal causal lengths
  return std::min(tile, rows);
}

// Stage times were summed over threads; a person wants wall time, so it is shared out in their proportion.
void ScaleToWallTime(double wall, Statistics* s) {
  const double total = s->seconds_estimate + s->seconds_select + s->seconds_attend;
  if (total <= 0) return;
  s->seconds_estimate *= wall / total;
  s->seconds_select *= wall / total;
  s->seconds_attend *= wall / total;
}

}  // namespace

int64_t KeptPositions(const CacheSettings& settings, int64_t causal) {
  const auto share = int64_t(std::floor(settings.keep_ratio * double(causal) + 0.5));
  return std::min(std::max<int64_t>(share, settings.min_k), causal);
}

KeptRanges SplitKept(const CacheSettings& settings, int64_t causal, int64_t k) {
  // The row's own position is the first of the latest; k >= 1 always has room for it.
  int64_t left = k - 1;
  const int64_t sinks = std::min({int64_t{settings.sinks}, causal - 1, left});
  left -= sinks;
  const int64_t latest = std::min({std::max<int64_t>(settings.latest, 1) - 1, causal - 1 - sinks, left});
  left -= latest;
  return {sinks, causal - 1 - latest, left};
}

Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics) {
  const int64_t rows = job.chunk.n_valid * job.op.group();
  const int64_t tile_rows = TileRows(job, rows, pool->num_threads());
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const bool may_share = rows * job.op.num_kv_heads * job.chunk.end() >= kPairsWorthSharing;
  Statistics total;
  std::mutex mutex;
  Clock::time_point clock = Clock::now();
  const bool done = pool->ParallelFor(tiles * job.op.num_kv_heads, may_share, [&](int64_t item, Scratch* scratch) {
    // One KV head after the other, so that its keys and values stay in the cache from tile to tile. Of a head, the last
    // tiles see the most positions: they go first, so that no thread is left with a large one at the end.
    const int64_t tile = tiles - 1 - item % tiles;
    Statistics mine;
    AttentionTile(job, scratch, int(item / tiles), tile * tile_rows, std::min(rows, (tile + 1) * tile_rows)).Run(&mine);
    std::lock_guard<std::mutex> lock(mutex);
    total.Add(mine);
  });
  if (!done) return Status::Error("out of memory while attending over cache %d", job.cache.handle());
  ScaleToWallTime(SecondsSince(&clock), &total);
  statistics->Add(total);
  return Status::Ok();
}

}  // namespace shadow
