// Writes the INT8 queries and keys that static estimate graphs take (docs/op_spec.md, quantise).
#ifndef SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_
#define SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_

#include "base/thread_pool.h"
#include "cache/attention_backend.h"
#include "cache/chunk.h"
#include "cache/kv_pages.h"
#include "config/plan.h"
#include "kernels/kernel_table.h"

namespace shadow {

// The chunk's rows are the last ones of their layer; `out` fits them and its scales are the plan's. plan null: zeros,
// as no mode without a plan reads scores.
void WriteEstimateInputs(const ChunkInputs& in, const EstimateInputs& out, const Plan* plan, const KernelTable& kernels,
                         const KvPages& pages, ThreadPool* pool);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ESTIMATE_ESTIMATE_INPUTS_H_
