// plan.bin: what calibration measured (the C++ twin of models/plan.py, which documents the format).
#ifndef SHADOWATTN_DELEGATE_CONFIG_PLAN_H_
#define SHADOWATTN_DELEGATE_CONFIG_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/op_options.h"

namespace shadow {

// The threshold at which a row selects a given share of its positions: at(i, j) for keep_ratios[i] at causal length
// lengths[j]. Both ascend.
struct ThresholdTable {
  std::vector<float> keep_ratios;
  std::vector<float> lengths;
  std::vector<float> values;  // [keep_ratios][lengths]

  float at(int ratio, int length) const { return values[size_t(ratio) * lengths.size() + length]; }
};

// The bucket grid of the static estimate graphs: scales of Q and of K, ascending, and an output scale for each pair.
// Empty where the bundle has none.
struct ScaleGrid {
  std::vector<float> q_scales;
  std::vector<float> k_scales;
  std::vector<float> score_scales;  // [q_scales][k_scales]: one level, in units of the float q . k
};

// Largest magnitudes of a layer, for a graph whose scales are static (mode npu_full).
struct StaticRanges {
  float q;
  float k;
  float v;
  float score;  // of q . k, not scaled
  float out;
};

class Plan {
 public:
  // Refuses a file that is missing, truncated, damaged, of another version, or holds numbers that cannot be used.
  static Status Load(const std::string& path, Plan* plan);
  static Status Parse(const uint8_t* bytes, size_t size, const std::string& name, Plan* plan);

  // Refuses a model of another shape than the one the plan was made for.
  Status CheckFits(const OpOptions& op) const;

  const float* centre(int layer, int kv_head) const { return Layer(layer) + size_t(kv_head) * head_dim_; }
  float scale(int layer, int kv_head) const { return Layer(layer)[Wide() + kv_head]; }
  const float* k_variance(int layer, int kv_head) const {
    return Layer(layer) + Wide() + num_kv_heads_ + size_t(kv_head) * head_dim_;
  }
  // [H]: multiples of the threshold, head by head.
  const float* threshold_factors(int layer) const { return Layer(layer) + 2 * Wide() + num_kv_heads_; }
  // [H]: the paper's budgets, as multiples of their mean.
  const float* paper_budgets(int layer) const { return threshold_factors(layer) + num_heads_; }
  // Zeros where nothing was measured.
  StaticRanges static_ranges(int layer) const {
    const float* r = paper_budgets(layer) + num_heads_;
    return {r[0], r[1], r[2], r[3], r[4]};
  }
  const ThresholdTable& thresholds() const { return thresholds_; }
  // Of keep_ratio auto, at every length.
  float auto_threshold() const { return auto_threshold_; }
  int q_buckets() const { return int(grid_.q_scales.size()); }
  int k_buckets() const { return int(grid_.k_scales.size()); }
  float q_scale(int i) const { return grid_.q_scales[i]; }
  float k_scale(int j) const { return grid_.k_scales[j]; }
  float score_scale(int i, int j) const { return grid_.score_scales[size_t(i) * grid_.k_scales.size() + j]; }
  float estimate_multiplier() const { return estimate_multiplier_; }
  int num_layers() const { return num_layers_; }
  int num_heads() const { return num_heads_; }

 private:
  size_t Wide() const { return size_t(num_kv_heads_) * head_dim_; }
  size_t LayerFloats() const { return 2 * Wide() + num_kv_heads_ + 2 * size_t(num_heads_) + kNumRanges; }
  const float* Layer(int layer) const { return values_.data() + layer * LayerFloats(); }
  Status CheckTable() const;
  Status CheckGrid() const;
  Status CheckLayer(int layer) const;
  Status CheckValues() const;

  static constexpr size_t kNumRanges = 5;

  std::string name_;
  int32_t num_layers_ = 0;
  int32_t num_heads_ = 0;
  int32_t num_kv_heads_ = 0;
  int32_t head_dim_ = 0;
  float estimate_multiplier_ = 0;
  float auto_threshold_ = 0;
  ThresholdTable thresholds_;
  ScaleGrid grid_;
  std::vector<float> values_;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CONFIG_PLAN_H_
