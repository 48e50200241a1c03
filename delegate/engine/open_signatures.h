// Which signatures of a file will run (option `signatures`, shadow_set_signatures).
#ifndef SHADOWATTN_DELEGATE_ENGINE_OPEN_SIGNATURES_H_
#define SHADOWATTN_DELEGATE_ENGINE_OPEN_SIGNATURES_H_

#include <mutex>
#include <set>
#include <string>

namespace shadow {

// Any thread may call.
class OpenSignatures {
 public:
  // Comma-separated names; "" opens every signature. Holds for interpreters made from now on.
  void Set(const std::string& list);
  // A subgraph without a name is open.
  bool IsOpen(const std::string& signature) const;

 private:
  mutable std::mutex mutex_;
  std::set<std::string> open_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_OPEN_SIGNATURES_H_
