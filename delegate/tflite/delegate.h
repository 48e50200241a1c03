// The TFLite side of the delegate: which nodes we claim, and the delegate kernel that runs them.
#ifndef SHADOWATTN_DELEGATE_TFLITE_DELEGATE_H_
#define SHADOWATTN_DELEGATE_TFLITE_DELEGATE_H_

#include <memory>
#include <utility>

#include "engine/engine.h"
#include "tflite/tflite_abi.h"

namespace shadow {

class ShadowDelegate {
 public:
  explicit ShadowDelegate(std::shared_ptr<Engine> engine);
  ShadowDelegate(const ShadowDelegate&) = delete;
  ShadowDelegate& operator=(const ShadowDelegate&) = delete;

  tflite::Delegate* base() { return &base_; }
  // Delegate kernels share it, so that an interpreter may outlive its delegate.
  const std::shared_ptr<Engine>& engine() const { return engine_; }
  static ShadowDelegate* From(tflite::Delegate* base) { return static_cast<ShadowDelegate*>(base->data); }

 private:
  tflite::Delegate base_{};
  std::shared_ptr<Engine> engine_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_TFLITE_DELEGATE_H_
