#include "cache/cache_table.h"

#include <limits>

namespace shadow {

Status CacheTable::Create(const CacheSettings& settings, int32_t* handle) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (last_handle_ == std::numeric_limits<int32_t>::max()) {
    return Status::Error("no cache handles are left in this delegate; create a new delegate");
  }
  caches_.emplace(last_handle_ + 1, std::make_shared<KvCache>(last_handle_ + 1, settings, make_backend_));
  *handle = ++last_handle_;
  return Status::Ok();
}

Status CacheTable::Destroy(int32_t handle) {
  if (handle == 0)
    return Status::Error("cache 0 belongs to the delegate and cannot be destroyed; rewind it to 0 instead");
  std::shared_ptr<KvCache> last_owner;  // so that the memory is freed after the lock
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = caches_.find(handle);
  if (found == caches_.end()) return Status::Error("cache %d does not exist (or was destroyed before)", handle);
  last_owner = std::move(found->second);
  caches_.erase(found);
  return Status::Ok();
}

Status CacheTable::Find(int32_t handle, std::shared_ptr<KvCache>* cache) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = caches_.find(handle);
  if (found == caches_.end()) {
    return Status::Error("cache %d does not exist; use 0 or a handle from shadow_cache_create that was not destroyed",
                         handle);
  }
  *cache = found->second;
  return Status::Ok();
}

Status CacheTable::Lease(int32_t handle, CacheLease* lease) const {
  std::shared_ptr<KvCache> cache;
  SHADOW_RETURN_IF_ERROR(Find(handle, &cache));
  if (!cache->TryAcquire()) {
    return Status::Error("cache %d is in use by another thread; give each thread its own cache", handle);
  }
  *lease = CacheLease(std::move(cache));
  return Status::Ok();
}

int32_t CacheTable::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int32_t>(caches_.size()) - 1;
}

}  // namespace shadow
