// The message behind shadow_last_error(): one for each thread, until that thread's next failure.
#ifndef SHADOWATTN_DELEGATE_BASE_LAST_ERROR_H_
#define SHADOWATTN_DELEGATE_BASE_LAST_ERROR_H_

#include <exception>
#include <new>

#include "base/status.h"

namespace shadow {

void SetLastError(const char* message);
const char* LastError();

// Runs `call` at the C boundary, which no exception may cross.
template <typename Call>
Status Guarded(const Call& call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Status::Error("out of memory; rewind or destroy caches, or use a smaller max_length");
  } catch (const std::exception& error) {
    return Status::Error("internal error: %s", error.what());
  } catch (...) {
    return Status::Error("internal error");
  }
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASE_LAST_ERROR_H_
