#include "attention/scratch.h"

namespace shadow {

ScratchStore::~ScratchStore() {
  for (std::atomic<Scratch*>& slot : idle_) delete slot.load();
}

ScratchLease::ScratchLease(ScratchStore* store) : store_(store) {
  for (std::atomic<Scratch*>& slot : store->idle_) {
    scratch_.reset(slot.exchange(nullptr));
    if (scratch_ != nullptr) return;
  }
  scratch_ = std::make_unique<Scratch>();
}

ScratchLease::~ScratchLease() {
  for (std::atomic<Scratch*>& slot : store_->idle_) {
    Scratch* empty = nullptr;
    if (!slot.compare_exchange_strong(empty, scratch_.get())) continue;
    static_cast<void>(scratch_.release());
    return;
  }
}

}  // namespace shadow
