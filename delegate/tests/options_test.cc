// key=value settings: what is read, what is refused, and that the refusal lists what is allowed.
#include "engine/options.h"

#include "tests/check.h"

using namespace shadow;
using namespace shadow::testing;

namespace {

Status Parse(std::vector<std::pair<const char*, const char*>> pairs, DelegateOptions* options) {
  std::vector<const char*> keys;
  std::vector<const char*> values;
  for (const auto& pair : pairs) {
    keys.push_back(pair.first);
    values.push_back(pair.second);
  }
  return ParseDelegateOptions(keys.data(), values.data(), keys.size(), options);
}

Status Parse(const char* key, const char* value) {
  DelegateOptions ignored;
  return Parse({{key, value}}, &ignored);
}

bool Dense(const CacheSettings& settings) { return RunningMode(settings).name == std::string("dense"); }

void TestDefaults() {
  DelegateOptions o;
  CHECK_OK(ParseDelegateOptions(nullptr, nullptr, 0, &o));
  CHECK(o.num_threads == 1 && o.verbosity == 0 && o.benchmark_rows == 0 && o.plan.empty());
  CHECK(o.arch == DetectArch());
  CHECK(o.cache.mode->name == std::string("shadow") && o.cache.keep_ratio == kAutoKeepRatio && o.cache.threshold == 0);
  CHECK(o.cache.compensate && o.cache.min_k == 64 && o.cache.sinks == 1);
  CHECK(o.cache.latest == 1 && o.cache.cache_type == CacheType::kFloat16 && o.cache.max_length == 32768);
  CHECK(!Dense(o.cache));
}

void TestValues() {
  DelegateOptions o;
  CHECK_OK(Parse({{"num_threads", "8"},
                  {"mode", "dense"},
                  {"keep_ratio", "1e-3"},
                  {"threshold", "0.125"},
                  {"compensate", "off"},
                  {"min_k", "1"},
                  {"sinks", "0"},
                  {"latest", "3"},
                  {"cache_type", "f32"},
                  {"max_length", "100"},
                  {"plan", "a=b;c"},
                  {"isa", "scalar"},
                  {"verbosity", "2"},
                  {"benchmark_rows", "99"}},
                 &o));
  CHECK(o.num_threads == 8 && o.cache.mode->name == std::string("dense") && o.cache.keep_ratio == 1e-3 &&
        o.cache.min_k == 1);
  CHECK(o.cache.threshold == 0.125 && !o.cache.compensate);
  CHECK(o.cache.sinks == 0 && o.cache.latest == 3 && o.cache.cache_type == CacheType::kFloat32);
  CHECK(o.cache.max_length == 100 && o.plan == "a=b;c" && o.arch == kArchScalar && o.verbosity == 2);
  CHECK(o.benchmark_rows == 99 && Dense(o.cache));
  CHECK_OK(Parse({{"keep_ratio", "1.0"}}, &o));
  CHECK(Dense(o.cache));
  CHECK_OK(Parse({{"keep_ratio", "1.0"}, {"threshold", "0.01"}}, &o));
  CHECK(!Dense(o.cache));  // the threshold goes before the keep ratio
  CHECK_OK(Parse({{"keep_ratio", "auto"}, {"compensate", "on"}}, &o));
  CHECK(o.cache.keep_ratio == kAutoKeepRatio && o.cache.compensate && !Dense(o.cache));
}

void TestModes() {
  const std::pair<const char*, bool> modes[] = {
      {"shadow", true},         {"dense", false},       {"int8", false},    {"shadow_paper", true},
      {"float_estimate", true}, {"block_sparse", true}, {"npu_full", false}};
  for (const auto& [name, selects] : modes) {
    DelegateOptions o;
    CHECK_OK(Parse({{"mode", name}, {"keep_ratio", "1"}}, &o));
    CHECK(o.cache.mode->name == std::string(name) && o.cache.mode->selects == selects);
    CHECK(Dense(o.cache) == (selects || name == std::string("dense")));
  }
}

void TestRefusals() {
  CHECK_REFUSED(Parse("nope", "1"), "unknown option 'nope'; allowed are num_threads, mode");
  CHECK_REFUSED(Parse("num_threads", "0"), "1..64");
  CHECK_REFUSED(Parse("num_threads", "65"), "1..64");
  CHECK_REFUSED(Parse("num_threads", "2x"), "got '2x'");
  CHECK_REFUSED(Parse("num_threads", " 2"), "whole number");
  CHECK_REFUSED(Parse("num_threads", ""), "whole number");
  CHECK_REFUSED(Parse("num_threads", "99999999999999999999"), "whole number");
  CHECK_REFUSED(Parse("mode", "fast"),
                "one of shadow, dense, int8, shadow_paper, float_estimate, block_sparse, npu_full, got 'fast'");
  for (const char* bad : {"1", "-0.1", "2", "nan", "auto", "", "0,1"}) {
    CHECK_REFUSED(Parse("threshold", bad), "threshold must be a probability in [0, 1)");
    CHECK_REFUSED(Parse("max_skipped_mass", bad), "max_skipped_mass must be a share of the mass in [0, 1)");
  }
  for (const char* bad : {"", "1", "true", "On"})
    CHECK_REFUSED(Parse("compensate", bad), "compensate must be on or off");
  for (const char* bad : {"0", "-0.1", "1.01", "nan", "Auto", "auto ", "NaN", "inf", "0,2", "", "1e999"}) {
    CHECK_REFUSED(Parse("keep_ratio", bad), "keep_ratio");
  }
  CHECK_REFUSED(Parse("min_k", "0"), "min_k");
  CHECK_REFUSED(Parse("sinks", "-1"), "sinks");
  CHECK_REFUSED(Parse("cache_type", "f8"), "f16 or f32");
  CHECK_REFUSED(Parse("max_length", "0"), "max_length");
  CHECK_REFUSED(Parse("isa", "sse9"), "sse9");
  CHECK_REFUSED(Parse("isa", DetectArch() & kArchNeon ? "avx2" : "neon"), "isa=");
  CHECK_REFUSED(Parse("verbosity", "3"), "0..2");
  CHECK_REFUSED(Parse("benchmark_rows", "32768"), "below max_length");
  CHECK_REFUSED(Parse(nullptr, "1"), "no key");
  CHECK_REFUSED(Parse("mode", nullptr), "no value");
  DelegateOptions o;
  CHECK_REFUSED(ParseDelegateOptions(nullptr, nullptr, 1, &o), "not passed");
}

void TestCacheSettings() {
  CacheSettings s{DefaultMode()};
  CHECK_OK(ParseCacheSettings("", CacheStage::kCreation, &s));
  CHECK_OK(ParseCacheSettings(nullptr, CacheStage::kCreation, &s));
  CHECK_OK(ParseCacheSettings("mode=dense;max_length=7;;", CacheStage::kCreation, &s));
  CHECK(s.mode->name == std::string("dense") && s.max_length == 7 && s.keep_ratio == kAutoKeepRatio);
  CHECK_REFUSED(ParseCacheSettings("mode", CacheStage::kCreation, &s), "expected key=value");
  CHECK_REFUSED(ParseCacheSettings("keep_ratio=0.5;plan=x", CacheStage::kCreation, &s), "allowed are mode");
  CHECK_REFUSED(ParseCacheSettings("max_length=9", CacheStage::kInUse, &s), "unknown option 'max_length'");
  CHECK(s.keep_ratio == kAutoKeepRatio);  // a refused text changes nothing
  CHECK_OK(ParseCacheSettings("keep_ratio=0.5;mode=shadow", CacheStage::kInUse, &s));
  CHECK(s.keep_ratio == 0.5 && !Dense(s));
  CHECK_OK(ParseCacheSettings("threshold=0.01;compensate=off;keep_ratio=auto", CacheStage::kInUse, &s));
  CHECK(s.keep_ratio == kAutoKeepRatio && s.threshold == 0.01 && !s.compensate);
}

// The text of settings reads as the same settings, and says everything.
void TestFormat() {
  const std::string defaults =
      "mode=shadow;keep_ratio=auto;threshold=0;compensate=on;min_k=64;sinks=1;latest=1;max_skipped_mass=0.01;"
      "cache_type=f16;max_length=32768";
  CHECK(FormatCacheSettings(CacheSettings(DefaultMode())) == defaults);
  const std::string other =
      "mode=int8;keep_ratio=0.1;threshold=1e-30;compensate=off;min_k=1;sinks=0;latest=16777216;"
      "max_skipped_mass=0.3333333333333333;cache_type=f32;max_length=7";
  CacheSettings s{DefaultMode()};
  CHECK_OK(ParseCacheSettings(other.c_str(), CacheStage::kCreation, &s));
  CHECK(s.max_skipped_mass == 0.3333333333333333 && FormatCacheSettings(s) == other);
}

}  // namespace

int main() {
  TestDefaults();
  TestValues();
  TestModes();
  TestRefusals();
  TestCacheSettings();
  TestFormat();
  return Finish();
}
