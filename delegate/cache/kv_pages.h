// The rows of a cache in memory: k, v and INT8 k of each (layer, KV head) in pages of 64 positions that never move.
#ifndef SHADOWATTN_DELEGATE_CACHE_KV_PAGES_H_
#define SHADOWATTN_DELEGATE_CACHE_KV_PAGES_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "cache/chunk.h"
#include "cache/derived_pages.h"
#include "cache/page_slabs.h"
#include "cache/skip_margins.h"
#include "kernels/layout.h"

namespace shadow {

class KvPages {
 public:
  explicit KvPages(CacheType type) : type_(type) {}
  KvPages(const KvPages&) = delete;
  KvPages& operator=(const KvPages&) = delete;

  // Once, before any rows. has_int8: store INT8 keys and their bounds too.
  void Bind(const OpOptions& op, bool has_int8);

  // Makes room for the chunk's rows, and for their skip-loss samples. Drops what was derived from the rows that the
  // chunk replaces. Throws std::bad_alloc.
  void Prepare(const Chunk& chunk, bool samples_skip_losses);
  // Drops rows from `length` on in all layers, and frees their pages.
  void Truncate(int64_t length);

  KvView view(int layer, int kv_head) const;
  const KvPage& page(int layer, int kv_head, int64_t index) const {
    return heads_[HeadIndex(layer, kv_head)].pages[index];
  }
  CacheType type() const { return type_; }
  // Of the INT8 keys of a page, once it is full.
  void WritePageKeyBounds(int layer, int kv_head, int64_t index);

  DerivedPages& derived() { return derived_; }
  SkipMargins& skip_margins() { return skip_margins_; }

  // Held now. Any thread may ask.
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed) + derived_.bytes(); }

 private:
  struct Head {
    std::vector<KvPage> pages;          // k of a page is where its memory begins, which is of slabs_
    std::vector<AlignedMemory> bounds;  // one block per 64 pages
    std::vector<uint8_t*> bound_blocks;
  };

  size_t HeadIndex(int layer, int kv_head) const { return size_t(layer) * num_kv_heads_ + kv_head; }
  size_t FloatBytes() const;  // of k, and of v, in a page
  size_t Int8Bytes() const;
  size_t SumBytes() const;
  size_t PageBytes() const;
  void AddPage(Head* head);
  void AddBounds(Head* head);
  void DropPages(Head* head, size_t pages);
  void AddBytes(int64_t more) { bytes_.fetch_add(more, std::memory_order_relaxed); }

  const CacheType type_;
  int num_layers_ = 0;
  int num_kv_heads_ = 0;
  int head_dim_ = 0;
  bool has_int8_ = false;
  PageSlabs slabs_;
  std::vector<Head> heads_;  // [layer][kv_head]
  DerivedPages derived_;
  SkipMargins skip_margins_;
  std::atomic<int64_t> bytes_{0};
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_KV_PAGES_H_
