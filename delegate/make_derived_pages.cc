#include "make_derived_pages.h"

#include "block_tile.h"
#include "int8_tile.h"
#include "npu_tile.h"

namespace shadow {
namespace {

struct Derivation {
  size_t bytes;  // per page and KV head; 0: none
  void (*make)(const AttentionJob& job, int kv_head, int64_t page, uint8_t* memory, Scratch* scratch);
};

Derivation DerivationOf(const AttentionJob& job) {
  const int d = job.op.head_dim;
  if (job.settings.dense()) return {0, nullptr};
  switch (job.settings.mode) {
    case Mode::kInt8:
      return {Int8ValuesBytes(d), MakeInt8Values};
    case Mode::kNpuFull:
      return {NpuPageBytes(d), MakeNpuPage};
    case Mode::kBlockSparse:
      return {KeySumBytes(d), MakeKeySum};
    default:
      return {0, nullptr};
  }
}

}  // namespace

Status MakeDerivedPages(const AttentionJob& job, ThreadPool* pool) {
  const Derivation derivation = DerivationOf(job);
  if (derivation.bytes == 0) return Status::Ok();
  if (job.settings.mode == Mode::kNpuFull) {
    SHADOW_RETURN_IF_ERROR(CheckStaticRanges(*job.plan, job.chunk.layer));
  }
  DerivedPages& derived_pages = job.cache.derived_pages();
  const int layer = job.chunk.layer, heads = job.op.num_kv_heads;
  const int64_t full = job.chunk.end() / kPageRows;
  const int64_t present = derived_pages.Grow(job.settings.mode, derivation.bytes, layer, full);
  const int64_t missing = full - present;
  if (missing <= 0) return Status::Ok();
  const bool may_share = missing * heads > 1;
  const bool done = pool->ParallelFor(missing * heads, may_share, [&](int64_t item, Scratch* scratch) {
    const int64_t page = present + item / heads;
    const int kv_head = int(item % heads);
    derivation.make(job, kv_head, page, derived_pages.page(layer, kv_head, page), scratch);
  });
  if (done) return Status::Ok();
  derived_pages.Truncate(layer, present);  // some were not made
  return Status::Error("out of memory in mode %s on cache %d; rewind or destroy caches", ModeName(job.settings.mode),
                       job.cache.handle());
}

}  // namespace shadow
