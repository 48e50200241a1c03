#include "engine/open_signatures.h"

#include <sstream>

namespace shadow {

void OpenSignatures::Set(const std::string& list) {
  std::set<std::string> open;
  std::istringstream stream(list);
  std::string name;
  while (std::getline(stream, name, ',')) {
    if (!name.empty()) open.insert(name);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  open_.swap(open);
}

bool OpenSignatures::IsOpen(const std::string& signature) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return open_.empty() || signature.empty() || open_.count(signature) > 0;
}

}  // namespace shadow
