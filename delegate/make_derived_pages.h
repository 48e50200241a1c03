// Makes what a cache's mode keeps beside full pages (derived_pages.h), before the rows of a chunk attend.
#ifndef SHADOWATTN_DELEGATE_MAKE_DERIVED_PAGES_H_
#define SHADOWATTN_DELEGATE_MAKE_DERIVED_PAGES_H_

#include "attention_job.h"
#include "status.h"
#include "thread_pool.h"

namespace shadow {

// For the full pages of the job's layer that lack it, in parallel. Refuses a mode that the plan has no numbers for.
// Throws std::bad_alloc.
Status MakeDerivedPages(const AttentionJob& job, ThreadPool* pool);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_MAKE_DERIVED_PAGES_H_
