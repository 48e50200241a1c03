#include "base/last_error.h"

#include <cstdio>

namespace shadow {
namespace {

// A plain array: it needs no destructor at thread exit and no memory when memory ran out.
thread_local char last_error[1024] = "";

}  // namespace

void SetLastError(const char* message) { std::snprintf(last_error, sizeof(last_error), "%s", message); }

const char* LastError() { return last_error; }

}  // namespace shadow
