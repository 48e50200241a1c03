// One chunk of one layer: steps 1 to 5 of docs/op_spec.md (what it computes).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_
#define SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_

#include "attention/attention_job.h"
#include "base/status.h"
#include "base/thread_pool.h"

namespace shadow {

// Computes rows 0 .. n_valid - 1 and adds to *statistics.
Status RunAttention(const AttentionJob& job, ThreadPool* pool, Statistics* statistics);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_RUN_ATTENTION_H_
