#include "config/plan.h"

#include <cerrno>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/little_endian.h"
#include "kernels/layout.h"

namespace shadow {
namespace {

constexpr size_t kHeaderSize = 48;
constexpr size_t kCrcSize = 4;
constexpr uint32_t kVersion = 3;
constexpr uint32_t kMaxTable = 256;     // keep ratios, and lengths
constexpr uint32_t kMaxScales = 16;     // of Q, and of K, in the bucket grid
constexpr int32_t kMaxCount = 1 << 10;  // of layers and of heads: far above any model, so that products stay in 64 bits
constexpr size_t kMaxFileSize = size_t{1} << 31;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Status ReadFile(const std::string& path, std::vector<uint8_t>* bytes) {
  std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file) return Status::Error("plan %s cannot be opened: %s", path.c_str(), std::strerror(errno));
  uint8_t block[1 << 14];
  size_t count = 0;
  while ((count = std::fread(block, 1, sizeof(block), file.get())) > 0) {
    if (bytes->size() + count > kMaxFileSize) return Status::Error("plan %s is too large for a plan", path.c_str());
    bytes->insert(bytes->end(), block, block + count);
  }
  if (std::ferror(file.get())) return Status::Error("plan %s cannot be read: %s", path.c_str(), std::strerror(errno));
  return Status::Ok();
}

Status CheckHeader(const uint8_t* bytes, size_t size, const char* name) {
  if (size < kHeaderSize + kCrcSize || std::memcmp(bytes, "SHPL", 4) != 0) {
    return Status::Error("%s is not a plan file (wanted SHPL and a header, got %zu bytes); calibrate or convert again",
                         name, size);
  }
  const auto version = ReadField<uint32_t>(bytes, 4);
  if (version != kVersion) {
    return Status::Error("%s has plan version %u, this delegate knows %u; update shadowattn or calibrate again", name,
                         version, kVersion);
  }
  return Status::Ok();
}

bool InRange(int32_t value, int32_t high) { return value >= 1 && value <= high; }

bool Ascends(const std::vector<float>& values, float low, float high) {
  for (float value : values) {
    if (!(value > low && value <= high)) return false;
    low = value;
  }
  return true;
}

// Sizes of the arrays before the layers.
struct Counts {
  uint32_t ratios = 0, lengths = 0, q = 0, k = 0;

  size_t floats() const { return size_t{ratios} + lengths + size_t{ratios} * lengths + q + k + size_t{q} * k; }
};

Status ReadCounts(const uint8_t* bytes, const char* name, Counts* counts) {
  const auto field = [bytes](size_t offset) { return ReadField<uint32_t>(bytes, offset); };
  Counts c;
  c.ratios = field(32), c.lengths = field(36), c.q = field(40), c.k = field(44);
  if (c.ratios < 1 || c.ratios > kMaxTable || c.lengths < 1 || c.lengths > kMaxTable) {
    return Status::Error("%s: %u keep ratios and %u lengths are not a threshold table; calibrate again", name, c.ratios,
                         c.lengths);
  }
  if (c.q > kMaxScales || c.k > kMaxScales || (c.q == 0) != (c.k == 0)) {
    return Status::Error("%s: %u by %u scales are not a bucket grid; convert the model again", name, c.q, c.k);
  }
  *counts = c;
  return Status::Ok();
}

}  // namespace

Status Plan::Load(const std::string& path, Plan* plan) {
  std::vector<uint8_t> bytes;
  SHADOW_RETURN_IF_ERROR(ReadFile(path, &bytes));
  return Parse(bytes.data(), bytes.size(), path, plan);
}

Status Plan::Parse(const uint8_t* bytes, size_t size, const std::string& name, Plan* plan) {
  SHADOW_RETURN_IF_ERROR(CheckHeader(bytes, size, name.c_str()));
  Plan p;
  p.name_ = name;
  p.num_layers_ = ReadField<int32_t>(bytes, 8);
  p.num_heads_ = ReadField<int32_t>(bytes, 12);
  p.num_kv_heads_ = ReadField<int32_t>(bytes, 16);
  p.head_dim_ = ReadField<int32_t>(bytes, 20);
  p.estimate_multiplier_ = ReadField<float>(bytes, 24);
  const bool shape_ok = InRange(p.num_layers_, kMaxCount) && InRange(p.num_heads_, kMaxCount) &&
                        InRange(p.num_kv_heads_, p.num_heads_) && InRange(p.head_dim_, kMaxHeadDim);
  if (!shape_ok || p.num_heads_ % p.num_kv_heads_ != 0) {
    return Status::Error(
        "%s has an impossible shape: %d layers, %d query heads, %d KV heads, head dim %d; calibrate again",
        name.c_str(), p.num_layers_, p.num_heads_, p.num_kv_heads_, p.head_dim_);
  }
  p.auto_threshold_ = ReadField<float>(bytes, 28);
  Counts counts;
  SHADOW_RETURN_IF_ERROR(ReadCounts(bytes, name.c_str(), &counts));
  const size_t count = p.num_layers_ * p.LayerFloats();
  const size_t wanted = kHeaderSize + (counts.floats() + count) * sizeof(float) + kCrcSize;
  if (size != wanted) {
    return Status::Error("%s: expected %zu bytes, got %zu; the file is truncated, calibrate again", name.c_str(),
                         wanted, size);
  }
  if (Crc32(bytes, size - kCrcSize) != ReadField<uint32_t>(bytes, size - kCrcSize)) {
    return Status::Error("%s has a wrong checksum; the file is damaged, calibrate again", name.c_str());
  }
  const uint8_t* next = bytes + kHeaderSize;
  const auto take = [&next](std::vector<float>* values, size_t floats) {
    values->resize(floats);
    if (floats == 0) return;  // no grid: there is nowhere to copy to
    std::memcpy(values->data(), next, floats * sizeof(float));
    next += floats * sizeof(float);
  };
  take(&p.thresholds_.keep_ratios, counts.ratios);
  take(&p.thresholds_.lengths, counts.lengths);
  take(&p.thresholds_.values, size_t{counts.ratios} * counts.lengths);
  take(&p.grid_.q_scales, counts.q);
  take(&p.grid_.k_scales, counts.k);
  take(&p.grid_.score_scales, size_t{counts.q} * counts.k);
  take(&p.values_, count);
  SHADOW_RETURN_IF_ERROR(p.CheckValues());
  *plan = std::move(p);
  return Status::Ok();
}

Status Plan::CheckTable() const {
  const char* name = name_.c_str();
  const auto is_probability = [](float t) { return std::isnormal(t) && t > 0 && t < 1; };
  if (!is_probability(auto_threshold_)) {
    return Status::Error("%s: auto_threshold must be in (0, 1), got %g; calibrate again", name,
                         double(auto_threshold_));
  }
  for (float threshold : thresholds_.values) {
    if (!is_probability(threshold)) {
      return Status::Error("%s: thresholds must be in (0, 1), got %g; calibrate again", name, double(threshold));
    }
  }
  if (!Ascends(thresholds_.keep_ratios, 0.0f, 1.0f) || !Ascends(thresholds_.lengths, 0.0f, 1e9f)) {
    return Status::Error("%s: keep ratios and lengths of the threshold table must ascend; calibrate again", name);
  }
  return Status::Ok();
}

Status Plan::CheckGrid() const {
  const char* name = name_.c_str();
  for (const std::vector<float>* scales : {&grid_.q_scales, &grid_.k_scales, &grid_.score_scales}) {
    for (float scale : *scales) {
      if (!std::isnormal(scale) || scale < 0) {
        return Status::Error("%s: scales of the bucket grid must be positive, got %g; convert the model again", name,
                             double(scale));
      }
    }
  }
  if (!Ascends(grid_.q_scales, 0.0f, FLT_MAX) || !Ascends(grid_.k_scales, 0.0f, FLT_MAX)) {
    return Status::Error("%s: scales of the bucket grid must ascend; convert the model again", name);
  }
  return Status::Ok();
}

Status Plan::CheckLayer(int layer) const {
  const char* name = name_.c_str();
  for (int head = 0; head < num_kv_heads_; ++head) {
    // Below the smallest normal float, 1 / scale would be infinite.
    if (!std::isnormal(scale(layer, head)) || scale(layer, head) < 0) {
      return Status::Error("%s: scale of layer %d, KV head %d must be positive, got %g; calibrate again", name, layer,
                           head, double(scale(layer, head)));
    }
  }
  for (size_t i = 0; i < Wide(); ++i) {
    if (k_variance(layer, 0)[i] < 0) {
      return Status::Error("%s: k_variance of layer %d is negative; calibrate again", name, layer);
    }
  }
  for (int head = 0; head < num_heads_; ++head) {
    if (!std::isnormal(threshold_factors(layer)[head]) || threshold_factors(layer)[head] < 0 ||
        paper_budgets(layer)[head] < 0) {
      return Status::Error("%s: budgets of layer %d, head %d must be positive, got %g and %g; calibrate again", name,
                           layer, head, double(threshold_factors(layer)[head]), double(paper_budgets(layer)[head]));
    }
  }
  const float* ranges = paper_budgets(layer) + num_heads_;
  for (size_t i = 0; i < kNumRanges; ++i) {
    if (ranges[i] < 0) return Status::Error("%s: a range of layer %d is negative; calibrate again", name, layer);
  }
  return Status::Ok();
}

Status Plan::CheckValues() const {
  const char* name = name_.c_str();
  if (!(std::isfinite(estimate_multiplier_) && estimate_multiplier_ > 0)) {
    return Status::Error("%s: estimate_multiplier must be positive, got %g; calibrate again", name,
                         double(estimate_multiplier_));
  }
  for (float value : values_) {
    if (!std::isfinite(value)) return Status::Error("%s holds NaN or infinity; calibrate again on other text", name);
  }
  SHADOW_RETURN_IF_ERROR(CheckTable());
  SHADOW_RETURN_IF_ERROR(CheckGrid());
  for (int layer = 0; layer < num_layers_; ++layer) SHADOW_RETURN_IF_ERROR(CheckLayer(layer));
  return Status::Ok();
}

Status Plan::CheckFits(const OpOptions& op) const {
  if (op.num_layers == num_layers_ && op.num_heads == num_heads_ && op.num_kv_heads == num_kv_heads_ &&
      op.head_dim == head_dim_) {
    return Status::Ok();
  }
  return Status::Error(
      "%s was made for %d layers, %d query heads, %d KV heads, head dim %d, but the model has %d, %d, %d, %d; "
      "pass the plan of this bundle",
      name_.c_str(), num_layers_, num_heads_, num_kv_heads_, head_dim_, op.num_layers, op.num_heads, op.num_kv_heads,
      op.head_dim);
}

}  // namespace shadow
