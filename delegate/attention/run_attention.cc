#include "attention/run_attention.h"

#include <algorithm>
#include <mutex>

#include "attention/dense_tile.h"
#include "attention/make_derived_pages.h"
#include "attention/page_skipping.h"
#include "attention/row_observer.h"

namespace shadow {
namespace {

constexpr float kAblated = 1e30f;  // threshold factors above it

// How many rows attend to all positions though the mode selects. They come first, as they are the shortest.
int64_t RowsUpToMinK(const TileRows& rows) {
  const AttentionJob& job = rows.job();
  if (!job.mode.selects) return 0;
  int64_t count = 0;
  while (count < rows.count() && rows.Causal(count) <= job.settings.min_k) ++count;
  return count;
}

// An ablated head puts out zeros: calibration asks what the model loses without it.
void ZeroAblatedHeads(const TileRows& rows) {
  const AttentionJob& job = rows.job();
  const float* factors = job.part.threshold_factors;
  if (!job.settings.mode->by_threshold || factors == nullptr) return;
  for (int64_t r = 0; r < rows.count(); ++r) {
    if (factors[rows.Head(r)] > kAblated) std::fill_n(rows.Out(r), job.op().head_dim, 0.0f);
  }
}

void RunTile(const TileRows& rows, Scratch* scratch, Statistics* statistics) {
  const int64_t dense = RowsUpToMinK(rows);
  if (dense > 0) AttendDense(rows, dense, scratch, statistics);
  if (dense < rows.count()) rows.job().mode.run(rows, dense, scratch, statistics);
  statistics->rows += rows.count();
  for (int64_t r = 0; r < rows.count(); ++r) statistics->causal_rows += rows.Causal(r);
  ZeroAblatedHeads(rows);
  RowObserver(rows).Finished();
}

// No more than gives every thread a tile.
int64_t RowsPerTile(const AttentionJob& job, int64_t rows) {
  const int threads = job.pool.num_threads();
  const int64_t per_thread = (rows * job.heads().kv_heads + threads - 1) / threads;
  int64_t tile = std::min(job.mode.max_tile_rows, std::max<int64_t>(1, per_thread));
  const int64_t group = job.heads().width;
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

void RunTimes(const AttentionJob& job, Times times, Statistics* statistics) {
  const Tiling tiling(job, times);
  const int64_t tiles = tiling.count(), kv_heads = job.heads().kv_heads;
  const bool may_share =
      job.part.may_share && tiling.rows() * kv_heads * job.chunk().end() >= job.mode.pairs_worth_sharing;
  Statistics total;
  std::mutex mutex;
  StageClock clock;
  job.pool.ParallelFor(tiles * kv_heads, may_share, [&](ThreadPool::Items* items) {
    const ScratchLease scratch(&job.scratch);
    Statistics mine;
    for (int64_t item; items->Take(&item);) {
      // One KV head after the other, so that its keys and values stay in the cache from tile to tile. Of a head, the
      // last tiles see the most positions: they go first, so that no thread is left with a large one at the end.
      const int64_t tile = tiles - 1 - item % tiles;
      RunTile(tiling.Tile(job, job.heads().first_kv_head + int(item / tiles), tile), scratch.get(), &mine);
      job.kernels.end_estimates();
    }
    std::lock_guard<std::mutex> lock(mutex);
    total.Add(mine);
  });
  ScaleToWallTime(clock.Lap(), &total);
  statistics->Add(total);
}

// The chunk's rows from time `begin` on that lie in one block of positions, with the margins of that block.
void RunMarginBlock(const AttentionJob& job, int64_t* begin, Statistics* statistics) {
  const Chunk& chunk = job.chunk();
  const int64_t position = (chunk.position + *begin) / kMarginBlock * kMarginBlock;
  const Times times{*begin, std::min(chunk.n_valid, position + kMarginBlock - chunk.position)};
  *begin = times.end;
  AttentionJob of_block = job;
  of_block.skip_margins = job.pages.skip_margins().MarginsAt(chunk.layer, position, job.settings.max_skipped_mass);
  RunTimes(of_block, times, statistics);
}

}  // namespace

void RunAttention(const AttentionJob& job, Statistics* statistics) {
  MakeDerivedPages(job);
  if (!SkipsPages(job)) return RunTimes(job, {0, job.chunk().n_valid}, statistics);
  for (int64_t begin = 0; begin < job.chunk().n_valid;) RunMarginBlock(job, &begin, statistics);
}

Tiling::Tiling(const AttentionJob& job, Times times)
    : first_(times.begin * job.heads().width), rows_((times.end - times.begin) * job.heads().width) {
  const int64_t group = job.op().group();
  size_ = job.mode.page_tiles ? kPageRows * group : RowsPerTile(job, rows_);
  offset_ = job.mode.page_tiles ? job.chunk().position % kPageRows * group : 0;
}

TileRows Tiling::Tile(const AttentionJob& job, int kv_head, int64_t i) const {
  return TileRows(job, kv_head, first_ + std::max<int64_t>(0, i * size_ - offset_),
                  first_ + std::min(rows_, (i + 1) * size_ - offset_));
}

}  // namespace shadow
