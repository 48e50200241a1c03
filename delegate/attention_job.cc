#include "attention_job.h"

#include <algorithm>
#include <mutex>

#include "block_tile.h"
#include "int8_tile.h"
#include "key_bounds.h"
#include "make_derived_pages.h"
#include "npu_tile.h"
#include "row_observer.h"
#include "sparse_tile.h"
#include "tile_rows.h"
#include "top_k.h"

namespace shadow {
namespace {

// Rows per tile at most. Dense float attention converts keys and values for each; others gain nothing beyond so many
// rows, and threads that share small tiles end together.
constexpr int64_t kMaxDenseRows = 96, kMaxRows = 48;
constexpr float kAblated = 1e30f;  // threshold factors above it

// Of (row, position) pairs: with fewer, waking another thread costs more than it saves. A pair costs a mode that
// chooses a fifth of what it costs dense float attention, INT8 attention less than half.
int64_t PairsWorthSharing(const CacheSettings& settings) {
  if (settings.dense()) return 1 << 14;
  return settings.mode == Mode::kShadow ? 1 << 16 : 1 << 15;
}

// The first `count` rows over all their positions, exactly.
void AttendDense(const TileRows& rows, int64_t count, Scratch* scratch) {
  const AttentionJob& job = rows.job();
  const KvView view = rows.view();
  const float* q = LoadQueries(rows, 0, scratch);
  int32_t* causal = scratch->counts.Reserve(count);
  float** out = scratch->out.Reserve(count);
  for (int64_t r = 0; r < count; ++r) {
    causal[r] = int32_t(rows.Causal(r));
    out[r] = rows.Out(r);
  }
  float* memory = scratch->attend.Reserve(AttendDenseScratchFloats(int(count), job.op.head_dim));
  job.kernels.of(view.type).attend_dense({q, causal, out, int(count), job.op.softmax_scale}, view, memory);
}

// Rows that read everything. They come first, as what a row may leave out grows with its length.
int64_t DenseRows(const TileRows& rows) {
  const CacheSettings& settings = rows.job().settings;
  if (settings.dense()) return rows.count();
  if (!settings.selects()) return 0;
  int64_t count = 0;
  while (count < rows.count() && rows.Causal(count) <= settings.min_k) ++count;
  return count;
}

// The rows from `first` on, as the mode has it.
void RunByMode(const TileRows& rows, int64_t first, Scratch* scratch, Statistics* statistics) {
  switch (rows.job().settings.mode) {
    case Mode::kInt8:
      return Int8Tile(rows, scratch).Run(statistics);
    case Mode::kNpuFull:
      return NpuTile(rows, scratch).Run(statistics);
    case Mode::kBlockSparse:
      return BlockTile(rows, first, scratch).Run(statistics);
    default:
      return SparseTile(rows, first, scratch).Run(statistics);
  }
}

// Heads that are to read nothing put out zeros: calibration asks what the model loses without them.
void ZeroAblatedHeads(const TileRows& rows) {
  const AttentionJob& job = rows.job();
  if (job.settings.mode != Mode::kShadow || job.threshold_factors == nullptr) return;
  for (int64_t r = 0; r < rows.count(); ++r) {
    if (job.threshold_factors[rows.Head(r)] > kAblated) std::fill_n(rows.Out(r), job.op.head_dim, 0.0f);
  }
}

void RunTile(const TileRows& rows, Scratch* scratch, Statistics* statistics) {
  StageClock clock;
  const int64_t dense = DenseRows(rows);
  if (dense > 0) AttendDense(rows, dense, scratch);
  statistics->seconds_attend += clock.Lap();
  if (dense < rows.count()) RunByMode(rows, dense, scratch, statistics);
  statistics->rows += rows.count();
  for (int64_t r = 0; r < rows.count(); ++r) {
    statistics->causal_rows += rows.Causal(r);
    if (r < dense) statistics->value_rows_read += rows.Causal(r);
  }
  ZeroAblatedHeads(rows);
  RowObserver(rows).Finished();
}

// Rows per tile: no more than gives every thread an item.
int64_t RowsPerTile(const AttentionJob& job, int64_t rows, int num_threads) {
  int64_t tile = job.settings.dense() ? kMaxDenseRows : kMaxRows;
  const int64_t per_thread = (rows * job.heads.kv_heads + num_threads - 1) / num_threads;
  tile = std::min(tile, std::max<int64_t>(1, per_thread));
  const int64_t group = job.heads.width;
  if (tile > group) tile -= tile % group;  // whole times: their rows have equal causal lengths
  return std::min(tile, rows);
}

// Times [begin, end) of a chunk.
struct Times {
  int64_t begin;
  int64_t end;
};

// How those rows of a KV head are divided. In mode block_sparse a tile is a block of queries, and begins where a page
// does.
class Tiling {
 public:
  Tiling(const AttentionJob& job, Times times, int num_threads)
      : first_(times.begin * job.heads.width), rows_((times.end - times.begin) * job.heads.width) {
    const bool blocks = job.settings.mode == Mode::kBlockSparse;
    size_ = blocks ? kPageRows * job.op.group() : RowsPerTile(job, rows_, num_threads);
    offset_ = blocks ? job.chunk.position % kPageRows * job.op.group() : 0;
  }
  int64_t rows() const { return rows_; }
  int64_t count() const { return (offset_ + rows_ + size_ - 1) / size_; }
  TileRows Tile(const AttentionJob& job, int kv_head, int64_t i) const {
    return TileRows(job, kv_head, first_ + std::max<int64_t>(0, i * size_ - offset_),
                    first_ + std::min(rows_, (i + 1) * size_ - offset_));
  }

 private:
  int64_t first_;
  int64_t rows_;
  int64_t size_;
  int64_t offset_;  // rows that the first tile lacks
};

// Stage times were summed over threads; a person wants wall time, so it is shared out in their proportion.
void ScaleToWallTime(double wall, Statistics* s) {
  const double total = s->seconds_estimate + s->seconds_select + s->seconds_attend;
  if (total <= 0) return;
  s->seconds_estimate *= wall / total;
  s->seconds_select *= wall / total;
  s->seconds_attend *= wall / total;
}

Status RunTimes(const AttentionJob& job, Times times, ThreadPool* pool, Statistics* statistics) {
  const Tiling tiling(job, times, pool->num_threads());
  const int64_t tiles = tiling.count();
  const int64_t items = tiles * job.heads.kv_heads;
  const bool may_share =
      job.may_share && tiling.rows() * job.heads.kv_heads * job.chunk.end() >= PairsWorthSharing(job.settings);
  Statistics total;
  std::mutex mutex;
  StageClock clock;
  const bool done = pool->ParallelFor(items, may_share, [&](int64_t item, Scratch* scratch) {
    // One KV head after the other, so that its keys and values stay in the cache from tile to tile. Of a head, the last
    // tiles see the most positions: they go first, so that no thread is left with a large one at the end.
    const int64_t tile = tiles - 1 - item % tiles;
    Statistics mine;
    RunTile(tiling.Tile(job, job.heads.first_kv_head + int(item / tiles), tile), scratch, &mine);
    job.kernels.end_estimates();
    std::lock_guard<std::mutex> lock(mutex);
    total.Add(mine);
  });
  if (!done) return Status::Error("out of memory while attending over cache %d", job.cache.handle());
  ScaleToWallTime(clock.Lap(), &total);
  statistics->Add(total);
  return Status::Ok();
}

// The chunk's rows from time `begin` on that are in the same block of positions, with the margins that this block has.
Status RunBlock(const AttentionJob& job, int64_t* begin, ThreadPool* pool, Statistics* statistics) {
  const int64_t position = (job.chunk.position + *begin) / kMarginBlock * kMarginBlock;
  const Times times{*begin, std::min(job.chunk.n_valid, position + kMarginBlock - job.chunk.position)};
  *begin = times.end;
  AttentionJob of_block = job;
  of_block.margins = job.cache.skip_margins().MarginsAt(job.chunk.layer, position, job.settings.max_skipped_mass);
  return RunTimes(of_block, times, pool, statistics);
}

}  // namespace

Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics) {
  SHADOW_RETURN_IF_ERROR(MakeDerivedPages(job, pool));
  if (!SkipsPages(job)) return RunTimes(job, {0, job.chunk.n_valid}, pool, statistics);
  for (int64_t begin = 0; begin < job.chunk.n_valid;) {
    SHADOW_RETURN_IF_ERROR(RunBlock(job, &begin, pool, statistics));
  }
  return Status::Ok();
}

}  // namespace shadow
