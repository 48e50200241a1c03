// Makes what a cache's mode keeps beside full pages (page_extras.h), before the rows of a chunk attend.
#ifndef SHADOWATTN_DELEGATE_MODE_EXTRAS_H_
#define SHADOWATTN_DELEGATE_MODE_EXTRAS_H_

#include "attention_job.h"
#include "status.h"
#include "thread_pool.h"

namespace shadow {

// For the full pages of the job's layer that lack it, in parallel. Refuses a mode that the plan has no numbers for.
// Throws std::bad_alloc.
Status MakeExtras(const AttentionJob& job, ThreadPool* pool);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_MODE_EXTRAS_H_
