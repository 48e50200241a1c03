// plan.bin: what calibration measured (the C++ twin of models/plan.py, which documents the format).
#ifndef SHADOWATTN_DELEGATE_PLAN_H_
#define SHADOWATTN_DELEGATE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "op_options.h"
#include "status.h"

namespace shadow {

class Plan {
 public:
  // Refuses a file that is missing, truncated, damaged, of another version, or holds numbers that cannot be used.
  static Status Load(const std::string& path, Plan* plan);
  static Status Parse(const uint8_t* bytes, size_t size, const std::string& name, Plan* plan);

  // Refuses a model of another shape than the one the plan was made for.
  Status CheckFits(const OpOptions& op) const;

  const float* centre(int layer, int kv_head) const { return Layer(layer) + size_t(kv_head) * head_dim_; }
  float scale(int layer, int kv_head) const { return Layer(layer)[size_t(num_kv_heads_) * head_dim_ + kv_head]; }
  const float* k_variance(int layer, int kv_head) const {
    return Layer(layer) + size_t(num_kv_heads_) * (head_dim_ + 1) + size_t(kv_head) * head_dim_;
  }
  float estimate_multiplier() const { return estimate_multiplier_; }

 private:
  size_t LayerFloats() const { return size_t(num_kv_heads_) * (2 * size_t(head_dim_) + 1); }
  const float* Layer(int layer) const { return values_.data() + layer * LayerFloats(); }
  Status CheckValues() const;

  std::string name_;
  int32_t num_layers_ = 0;
  int32_t num_heads_ = 0;
  int32_t num_kv_heads_ = 0;
  int32_t head_dim_ = 0;
  float estimate_multiplier_ = 0;
  std::vector<float> values_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_PLAN_H_
