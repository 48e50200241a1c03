// One cache's rows on the CPU and what attends over them, without an engine around it.
#ifndef SHADOWATTN_DELEGATE_TESTS_ATTENTION_BENCH_H_
#define SHADOWATTN_DELEGATE_TESTS_ATTENTION_BENCH_H_

#include <cmath>
#include <string>
#include <vector>

#include "engine/cpu_backend.h"
#include "engine/options.h"
#include "tests/check.h"
#include "tests/format_bytes.h"
#include "tests/oracle.h"

namespace shadow::testing {

inline OpOptions MakeOp(int num_heads, int num_kv_heads, int head_dim) {
  return {0, 1, num_heads, num_kv_heads, head_dim, 1.0f / std::sqrt(float(head_dim))};
}

// "key=value;key=value" of a cache.
inline CacheSettings MakeSettings(const std::string& text) {
  CacheSettings settings{DefaultMode()};
  CHECK_OK(ParseCacheSettings(text.c_str(), CacheStage::kCreation, &settings));
  return settings;
}

inline Text RandomText(const OpOptions& op, int64_t length, std::mt19937* generator) {
  const size_t kv = size_t(length) * op.num_kv_heads * op.head_dim;
  return {length, RandomFloats(size_t(length) * op.num_heads * op.head_dim, generator), RandomFloats(kv, generator),
          RandomFloats(kv, generator)};
}

inline Bytes PlanBytes(const OpOptions& op, float centre, float scale) {
  return PackPlan({op.num_layers, op.num_heads, op.num_kv_heads, op.head_dim}, centre, scale);
}

struct How {
  ArchFlags arch = DetectArch();
  int num_threads = 1;
  const float* factors = nullptr;  // [H] instead of the plan's
  Observer* observer = nullptr;
};

class AttentionBench {
 public:
  AttentionBench(const OpOptions& op, const CacheSettings& settings, const Bytes& plan_bytes, const How& how)
      : op_(op), how_(how), resources_(how.arch, how.num_threads), backend_(settings, &resources_) {
    CHECK_OK(Plan::Parse(plan_bytes.data(), plan_bytes.size(), "plan", &plan_));
    resources_.plan = &plan_;
    backend_.Bind(op);
  }

  // Rows [position, end) of a text.
  void Append(const Text& text, int64_t position, int64_t end) {
    backend_.Append(Inputs(text, position, end), nullptr, &statistics);
  }
  // The same, and attends: out [end - position][H*d].
  void Run(const Text& text, int64_t position, int64_t end, float* out) {
    Append(text, position, end);
    AttendPart part;
    part.heads = HeadGroup::All(op_);
    part.threshold_factors = how_.factors != nullptr ? how_.factors : plan_.threshold_factors(0);
    backend_.Attend(Inputs(text, position, end), part, out, how_.observer, &statistics);
  }
  // A whole text in chunks: [length][H*d]. Rows before `attend_from` are only appended.
  std::vector<float> RunAll(const Text& text, int64_t chunk, int64_t attend_from = 0) {
    const int64_t width = int64_t{op_.num_heads} * op_.head_dim;
    std::vector<float> out(text.length * width);
    for (int64_t position = 0; position < text.length; position += chunk) {
      const int64_t end = std::min(position + chunk, text.length);
      if (position < attend_from) {
        Append(text, position, end);
      } else {
        Run(text, position, end, out.data() + position * width);
      }
    }
    return out;
  }

  CpuBackend& backend() { return backend_; }

  Statistics statistics;

 private:
  ChunkInputs Inputs(const Text& text, int64_t position, int64_t end) const {
    const int64_t kv = position * op_.num_kv_heads * op_.head_dim;
    ChunkInputs in;
    in.op = op_;
    in.chunk = {0, position, end - position};
    in.time = end - position;
    in.q = text.q.data() + position * op_.num_heads * op_.head_dim;
    in.k = text.k.data() + kv;
    in.v = text.v.data() + kv;
    return in;
  }

  const OpOptions op_;
  const How how_;
  Plan plan_;
  CpuResources resources_;
  CpuBackend backend_;
};

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_ATTENTION_BENCH_H_
