// Success, or one sentence for a person: what was wanted, what came, where, and what to do next.
#ifndef SHADOWATTN_DELEGATE_BASE_STATUS_H_
#define SHADOWATTN_DELEGATE_BASE_STATUS_H_

#include <cstdarg>
#include <cstdio>
#include <string>
#include <utility>

namespace shadow {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(); }
  static Status Error(const char* format, ...) __attribute__((format(printf, 1, 2)));

  bool ok() const { return ok_; }
  const std::string& message() const { return message_; }
  // The same error, told to have happened in `where`.
  Status In(const std::string& where) && {
    if (!ok_) message_ = where + ": " + message_;
    return std::move(*this);
  }

 private:
  bool ok_ = true;
  std::string message_;
};

inline Status Status::Error(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  Status status;
  status.ok_ = false;
  status.message_ = text;
  return status;
}

}  // namespace shadow

#define SHADOW_RETURN_IF_ERROR(expression)         \
  do {                                             \
    ::shadow::Status shadow_status = (expression); \
    if (!shadow_status.ok()) return shadow_status; \
  } while (false)

#endif  // SHADOWATTN_DELEGATE_BASE_STATUS_H_
