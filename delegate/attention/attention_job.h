// What one chunk of one layer is attended with.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_
#define SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_

#include "attention/scratch.h"
#include "attention/thresholds.h"
#include "base/thread_pool.h"
#include "cache/attention_backend.h"
#include "cache/chunk.h"
#include "cache/kv_pages.h"
#include "config/mode.h"
#include "config/plan.h"
#include "config/settings.h"
#include "kernels/kernel_table.h"
#include "observe/observer.h"

namespace shadow {

// The chunk's rows are in the pages already.
struct AttentionJob {
  const ChunkInputs& in;
  const AttendPart& part;
  const CacheSettings& settings;
  const ModeTraits& mode;        // by which the rows run
  const Plan* plan;              // null: only modes that need none
  const Thresholds* thresholds;  // null without a plan
  const KernelTable& kernels;
  KvPages& pages;
  ThreadPool& pool;
  ScratchStore& scratch;
  float* out;                           // [T][H*d]; rows from n_valid on, and heads that are not meant, are not touched
  Observer* observer;                   // null: nothing is observed
  const float* skip_margins = nullptr;  // [H], of SkipMargins; null: every page is scored

  const OpOptions& op() const { return in.op; }
  const Chunk& chunk() const { return in.chunk; }
  const HeadGroup& heads() const { return part.heads; }
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_ATTENTION_JOB_H_
