// The query rows of one item of work, and what every stage asks about them.
//
// An item is (KV head, range of rows). Rows are t-major, with those query heads of the KV head together that the job
// names, usually all G: row r is time r / G, query head kv_head * G + r % G. So the causal lengths of a tile lie close
// together, and its keys are read once for G heads.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_TILE_ROWS_H_
#define SHADOWATTN_DELEGATE_ATTENTION_TILE_ROWS_H_

#include <cstdint>

#include "attention/attention_job.h"
#include "attention/scratch.h"

namespace shadow {

// With more, most modes gain nothing, and threads that share small tiles end together.
inline constexpr int64_t kMaxTileRows = 48;

class TileRows {
 public:
  TileRows(const AttentionJob& job, int kv_head, int64_t row_begin, int64_t row_end)
      : job_(job), kv_head_(kv_head), begin_(row_begin), count_(row_end - row_begin) {}

  const AttentionJob& job() const { return job_; }
  int kv_head() const { return kv_head_; }
  int64_t count() const { return count_; }
  KvView view() const { return job_.pages.view(job_.chunk().layer, kv_head_); }

  int64_t Time(int64_t r) const { return (begin_ + r) / job_.heads().width; }
  int64_t Causal(int64_t r) const { return job_.chunk().position + Time(r) + 1; }
  int64_t Head(int64_t r) const {
    return int64_t{kv_head_} * job_.op().group() + job_.heads().first + (begin_ + r) % job_.heads().width;
  }
  const float* Query(int64_t r) const {
    return job_.in.q + (Time(r) * job_.op().num_heads + Head(r)) * job_.op().head_dim;
  }
  float* Out(int64_t r) const { return job_.out + (Time(r) * job_.op().num_heads + Head(r)) * job_.op().head_dim; }
  // [Causal(r)], as an estimate graph put them out. Its rows are head-major: (KV head, query head, t).
  const int8_t* GraphScores(int64_t r) const {
    const int64_t head =
        (kv_head_ - job_.heads().first_kv_head) * job_.heads().width + (begin_ + r) % job_.heads().width;
    return job_.part.scores.values + (head * job_.in.time + Time(r)) * job_.part.scores.length;
  }
  // Causal length of the last row, the largest.
  int64_t Longest() const { return Causal(count_ - 1); }

 private:
  const AttentionJob& job_;
  const int kv_head_;
  const int64_t begin_;
  const int64_t count_;
};

// Copies the query of row r, padded with zeros: [PaddedFloats(d)].
void LoadQuery(const TileRows& rows, int64_t r, float* query);

// Copies the queries of rows [begin, rows.count()) into scratch->q, padded with zeros: [][PaddedFloats(d)].
const float* LoadQueries(const TileRows& rows, int64_t begin, Scratch* scratch);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_TILE_ROWS_H_
