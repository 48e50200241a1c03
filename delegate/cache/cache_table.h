// The caches of one delegate by handle. Handle 0 always exists; handles are never reused.
#ifndef SHADOWATTN_DELEGATE_CACHE_CACHE_TABLE_H_
#define SHADOWATTN_DELEGATE_CACHE_CACHE_TABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/status.h"
#include "cache/kv_cache.h"
#include "config/settings.h"

namespace shadow {

// Exclusive use of a cache for as long as it lives. The cache outlives its removal from the table until then.
class CacheLease {
 public:
  CacheLease() = default;
  explicit CacheLease(std::shared_ptr<KvCache> cache) : cache_(std::move(cache)) {}
  CacheLease(const CacheLease&) = delete;
  CacheLease& operator=(CacheLease&& other) noexcept {
    std::swap(cache_, other.cache_);
    return *this;
  }
  ~CacheLease() {
    if (cache_) cache_->Release();
  }
  KvCache* operator->() const { return cache_.get(); }
  KvCache& operator*() const { return *cache_; }

 private:
  std::shared_ptr<KvCache> cache_;
};

class CacheTable {
 public:
  // settings: of handle 0.
  CacheTable(const CacheSettings& settings, MakeBackend make_backend) : make_backend_(std::move(make_backend)) {
    caches_.emplace(0, std::make_shared<KvCache>(0, settings, make_backend_));
  }

  Status Create(const CacheSettings& settings, int32_t* handle);
  Status Destroy(int32_t handle);
  // Refuses an unknown handle.
  Status Find(int32_t handle, std::shared_ptr<KvCache>* cache) const;
  // Refuses an unknown handle, and a cache that another thread uses at this moment.
  Status Lease(int32_t handle, CacheLease* lease) const;
  // Handle 0 not counted.
  int32_t size() const;

 private:
  const MakeBackend make_backend_;
  mutable std::mutex mutex_;
  std::map<int32_t, std::shared_ptr<KvCache>> caches_;
  int32_t last_handle_ = 0;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_CACHE_TABLE_H_
