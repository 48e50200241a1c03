// Memory as the kernels want it: aligned, growing, its contents lost when it grows.
#ifndef SHADOWATTN_DELEGATE_BASE_ALIGNED_BUFFER_H_
#define SHADOWATTN_DELEGATE_BASE_ALIGNED_BUFFER_H_

#include <stdlib.h>

#include <cstddef>
#include <memory>
#include <new>

#include "kernels/layout.h"

namespace shadow {

constexpr size_t AlignUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct FreeMemory {
  void operator()(void* memory) const { free(memory); }
};

using AlignedMemory = std::unique_ptr<void, FreeMemory>;

// Throws std::bad_alloc.
inline AlignedMemory AllocateAligned(size_t bytes) {
  void* memory = nullptr;  // not std::aligned_alloc: Android has that only from API 28 on
  if (posix_memalign(&memory, kAlignment, AlignUp(bytes < 1 ? 1 : bytes)) != 0) throw std::bad_alloc();
  return AlignedMemory(memory);
}

template <typename T>
class AlignedBuffer {
 public:
  // Room for `count` elements, not initialised.
  T* Reserve(size_t count) {
    if (count > capacity_) {
      capacity_ = 0;
      memory_.reset();
      memory_ = AllocateAligned(count * sizeof(T));
      capacity_ = count;
    }
    return data();
  }
  T* data() const { return static_cast<T*>(memory_.get()); }

 private:
  AlignedMemory memory_;
  size_t capacity_ = 0;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASE_ALIGNED_BUFFER_H_
