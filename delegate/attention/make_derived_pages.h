// Makes what the job's mode derives from full pages (cache/derived_pages.h), before the rows of a chunk attend.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_MAKE_DERIVED_PAGES_H_
#define SHADOWATTN_DELEGATE_ATTENTION_MAKE_DERIVED_PAGES_H_

#include "attention/attention_job.h"

namespace shadow {

// For the full pages of the job's layer that lack it, in parallel. Throws std::bad_alloc.
void MakeDerivedPages(const AttentionJob& job);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_MAKE_DERIVED_PAGES_H_
