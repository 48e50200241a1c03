// Query heads that are worked on together: a part of one KV head's, or all of several KV heads'.
#ifndef SHADOWATTN_DELEGATE_CONFIG_HEAD_GROUP_H_
#define SHADOWATTN_DELEGATE_CONFIG_HEAD_GROUP_H_

#include <algorithm>
#include <cstdint>

#include "config/op_options.h"

namespace shadow {

struct HeadGroup {
  int first_kv_head = 0;
  int kv_heads = 1;  // more than one: with all their query heads
  int first = 0;     // of the query heads of first_kv_head
  int width = 1;     // query heads of each KV head

  static HeadGroup All(const OpOptions& op) { return {0, op.num_kv_heads, 0, op.group()}; }

  // Query heads [first, first + count). False if they are neither within a KV head nor whole KV heads.
  static bool Make(const OpOptions& op, int first, int count, HeadGroup* group) {
    if (first < 0 || count < 1 || first > op.num_heads - count) return false;
    const int within = first % op.group();
    *group = {first / op.group(), std::max(1, count / op.group()), within, std::min(count, op.group())};
    return within + count <= op.group() || (within == 0 && count % op.group() == 0);
  }
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CONFIG_HEAD_GROUP_H_
