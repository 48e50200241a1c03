// The exported C symbols: option errors, cache handles, statistics, 1,000 open and close cycles, pointers to
// delegates that were destroyed.
#include <algorithm>
#include <cstring>
#include <sstream>
#include <thread>

#include "abi/shadow_abi.h"
#include "tests/graphs.h"

using namespace shadow;
using namespace shadow::testing;

extern "C" {
tflite::Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                                void (*report_error)(const char*));
void tflite_plugin_destroy_delegate(tflite::Delegate* delegate);
}

namespace {

const Shape kShape{1, 4, 2, 8};
std::string reported;

void Report(const char* message) { reported = message; }

tflite::Delegate* Create(const char* key, const char* value) {
  reported.clear();
  return tflite_plugin_create_delegate(&key, &value, 1, Report);
}

// With a plan for the shape, and one more option.
tflite::Delegate* CreateWithPlan(const Shape& shape, const char* key, const char* value) {
  const std::string path = std::string(SHADOW_TEST_DIR) + "/" + std::to_string(std::random_device{}()) + "_plan.bin";
  WriteBytes(path, PackPlan({shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.head_dim}, shape.centre,
                            shape.scale));
  const char* keys[] = {"plan", "min_k", key};
  const char* values[] = {path.c_str(), "1", value};
  tflite::Delegate* delegate = tflite_plugin_create_delegate(keys, values, 3, Report);
  std::remove(path.c_str());
  return delegate;
}

void TestFacts() {
  CHECK(shadow_abi_version() == SHADOW_ABI_VERSION && SHADOW_ABI_VERSION == 4);
  CHECK(Contains(shadow_build_info(), "shadowattn "));
  CHECK(std::strcmp(shadow_best_isa(), ArchName(DetectArch())) == 0);
  tflite::Delegate* delegate = Create("isa", "scalar");
  CHECK(std::strcmp(shadow_isa(delegate), "scalar") == 0);
  CHECK(delegate->flags == 1);
  tflite_plugin_destroy_delegate(delegate);
}

// "shadowattn VERSION, COMPILER, isa: LEVEL LEVEL ...", as shadow_abi.h says.
void TestBuildInfo() {
  const std::string info = shadow_build_info();
  const size_t version = info.find("shadowattn "), compiler = info.find(", "), isa = info.find(", isa: ");
  CHECK(version == 0 && compiler != std::string::npos && isa != std::string::npos && compiler < isa);
  std::istringstream levels(info.substr(isa + 7));
  std::vector<std::string> names;
  for (std::string name; std::getline(levels, name, ' ');) names.push_back(name);
  CHECK(names.front() == "scalar");
  CHECK(std::find(names.begin(), names.end(), shadow_best_isa()) != names.end());
  for (const std::string& name : names) {
    tflite::Delegate* delegate = Create("isa", name.c_str());
    CHECK(delegate == nullptr ? Contains(reported, "is more than this machine has") : shadow_isa(delegate) == name);
    if (delegate != nullptr) tflite_plugin_destroy_delegate(delegate);
  }
}

// A cache that is told its defaults is as one that is told nothing, also where the delegate was told something else.
void TestCacheDefaults() {
  const std::string defaults = shadow_cache_defaults();
  CHECK(Contains(defaults, "mode=shadow;keep_ratio=auto") && Contains(defaults, "max_length=32768"));
  tflite::Delegate* delegate = Create("min_k", "7");
  const int32_t told = shadow_cache_create(delegate, defaults.c_str()), untold = shadow_cache_create(delegate, "");
  std::shared_ptr<KvCache> cache;
  CHECK_OK(ShadowDelegate::From(delegate)->engine()->caches().Find(told, &cache));
  CHECK(FormatCacheSettings(cache->settings()) == defaults);
  CHECK_OK(ShadowDelegate::From(delegate)->engine()->caches().Find(untold, &cache));
  CHECK(cache->settings().min_k == 7);
  tflite_plugin_destroy_delegate(delegate);
}

void TestObserved() {
  tflite::Delegate* delegate = Create("mode", "dense");
  CHECK(shadow_observe(delegate, 0, 8) == 0);
  double numbers[5] = {1, 1, 1, 1, 1};
  CHECK(shadow_observed(delegate, 0, "ranges", numbers, 5) == 0 && numbers[4] == 0);  // no row was attended
  for (int round : {0, 1}) {
    CHECK(shadow_observed(delegate, 0, "ranges", nullptr, 5) == -1 && Contains(shadow_last_error(), "null pointer"));
    CHECK(shadow_observed(delegate, 0, "ranges", numbers, -1) == -1 && Contains(shadow_last_error(), "-1"));
    CHECK(shadow_observed(delegate, 0, nullptr, numbers, 5) == -1 && Contains(shadow_last_error(), "no table ''"));
    if (round == 1) break;
    OpGraph graph(kShape, 4);
    *graph.runtime.data<float>(graph.k[0]) = -3;
    CHECK(graph.runtime.Apply(delegate) && graph.Run(0, 4));
  }
  CHECK(shadow_observed(delegate, 0, "ranges", numbers, 5) == 0 && numbers[1] == 3);
  CHECK(shadow_observed(delegate, 0, "ranges", numbers, 4) == -1 && Contains(shadow_last_error(), "5 numbers"));
  tflite_plugin_destroy_delegate(delegate);
}

void TestRefusedCreation() {
  CHECK(Create("nope", "1") == nullptr && Contains(reported, "unknown option 'nope'; allowed are"));
  CHECK(Contains(shadow_last_error(), "unknown option"));
  CHECK(Create("plan", "/nowhere") == nullptr && Contains(reported, "/nowhere cannot be opened"));
  CHECK(Create("num_threads", "none") == nullptr && Contains(reported, "num_threads"));
  CHECK(tflite_plugin_create_delegate(nullptr, nullptr, 3, nullptr) == nullptr);
}

void TestCaches() {
  tflite::Delegate* delegate = Create("mode", "dense");
  CHECK(shadow_num_caches(delegate) == 0 && shadow_cache_length(delegate, 0) == 0);
  const int32_t cache = shadow_cache_create(delegate, "mode=shadow;keep_ratio=0.5");
  CHECK(cache == 1 && shadow_num_caches(delegate) == 1);
  CHECK(shadow_cache_create(delegate, "keep_ratio=5") == -1 && Contains(shadow_last_error(), "keep_ratio"));
  CHECK(shadow_cache_configure(delegate, cache, "mode=dense") == 0);
  CHECK(shadow_cache_configure(delegate, cache, "cache_type=f32") == -1);
  CHECK(shadow_cache_configure(delegate, 9, "") == -1 && Contains(shadow_last_error(), "cache 9"));
  OpGraph graph(kShape, 4);
  CHECK(graph.runtime.Apply(delegate) && graph.Run(0, 4, cache));
  CHECK(shadow_cache_length(delegate, cache) == 4 && shadow_cache_length(delegate, 0) == 0);
  CHECK(shadow_cache_rewind(delegate, cache, 2) == 0 && shadow_cache_length(delegate, cache) == 2);
  CHECK(shadow_cache_rewind(delegate, cache, 3) == -1 && Contains(shadow_last_error(), "cannot rewind"));
  CHECK(!graph.Run(0, 9, cache) && Contains(shadow_last_error(), "n_valid"));
  CHECK(shadow_set_num_threads(delegate, 3) == 0 && shadow_set_num_threads(delegate, 0) == -1);
  CHECK(graph.Run(2, 4, cache));
  CHECK(shadow_cache_destroy(delegate, cache) == 0 && shadow_cache_destroy(delegate, cache) == -1);
  CHECK(shadow_cache_destroy(delegate, 0) == -1 && shadow_num_caches(delegate) == 0);
  CHECK(!graph.Run(6, 1, cache) && Contains(graph.runtime.error(), "does not exist"));
  tflite_plugin_destroy_delegate(delegate);
}

void TestStatistics() {
  tflite::Delegate* delegate = Create("mode", "dense");
  OpGraph graph(kShape, 4);
  CHECK(graph.runtime.Apply(delegate) && graph.Run(0, 3));
  ShadowStats stats{};
  CHECK(shadow_stats(delegate, 0, &stats) == -1 && Contains(shadow_last_error(), "struct_size"));
  CHECK(shadow_stats(delegate, 0, nullptr) == -1);
  stats.struct_size = sizeof(stats);
  CHECK(shadow_stats(delegate, 0, &stats) == 0);
  CHECK(stats.rows == 12 && stats.causal_rows == 24 && stats.value_rows_read == 24 && stats.length == 3);
  CHECK(stats.cache_bytes > 0 && stats.seconds_append > 0 && stats.seconds_attend > 0);
  CHECK(shadow_stats_reset(delegate, 0) == 0 && shadow_stats(delegate, 0, &stats) == 0);
  CHECK(stats.rows == 0 && stats.length == 3);
  CHECK(shadow_stats(delegate, 5, &stats) == -1);
  tflite_plugin_destroy_delegate(delegate);
}

void TestFactors() {
  const Shape shape{2, 4, 2, 8};
  tflite::Delegate* delegate = CreateWithPlan(shape, "compensate", "off");
  float factors[] = {1, 0, 2, 0.5f, 1, 1, INFINITY, 1};
  CHECK(shadow_cache_set_factors(delegate, 0, factors, 8) == 0);
  for (int64_t count : {-1, 1, 4, 7, 9, 1 << 30}) {
    CHECK(shadow_cache_set_factors(delegate, 0, factors, count) == -1 && Contains(shadow_last_error(), "wanted 8"));
  }
  CHECK(shadow_cache_set_factors(delegate, 0, nullptr, 8) == -1 && Contains(shadow_last_error(), "wanted 8"));
  for (float bad : {-1.0f, -INFINITY, NAN}) {
    factors[3] = bad;
    CHECK(shadow_cache_set_factors(delegate, 0, factors, 8) == -1 && Contains(shadow_last_error(), "factor 3"));
  }
  CHECK(shadow_cache_set_factors(delegate, 3, factors, 0) == -1 && Contains(shadow_last_error(), "cache 3"));
  CHECK(shadow_cache_set_factors(delegate, 0, nullptr, 0) == 0);
  CHECK(shadow_cache_set_factors(nullptr, 0, factors, 8) == -1 && Contains(shadow_last_error(), "no such delegate"));
  tflite_plugin_destroy_delegate(delegate);
  delegate = Create("mode", "dense");
  CHECK(shadow_cache_set_factors(delegate, 0, factors, 8) == -1 && Contains(shadow_last_error(), "wanted 0"));
  tflite_plugin_destroy_delegate(delegate);
}

void TestPointersKeptTooLong() {
  tflite::Delegate* delegate = Create("mode", "dense");
  OpGraph graph(kShape, 4);
  CHECK(graph.runtime.Apply(delegate));
  tflite_plugin_destroy_delegate(delegate);
  tflite_plugin_destroy_delegate(delegate);  // twice
  CHECK(graph.Run(0, 4));                    // the interpreter may outlive its delegate
  CHECK(shadow_cache_create(delegate, "") == -1 && Contains(shadow_last_error(), "no such delegate"));
  CHECK(shadow_num_caches(nullptr) == -1 && shadow_cache_length(nullptr, 0) == -1);
  CHECK(shadow_set_num_threads(delegate, 0) == -1 && Contains(shadow_last_error(), "no such delegate"));
  for (void* gone : {static_cast<void*>(nullptr), static_cast<void*>(delegate)}) {
    CHECK(shadow_num_caches(nullptr) == -1 && shadow_isa(gone) == nullptr);
    CHECK(Contains(shadow_last_error(), "no such delegate"));
  }
}

void TestOpenAndClose() {
  for (int i = 0; i < 1000; ++i) {
    tflite::Delegate* delegate = Create("mode", "dense");
    const int32_t cache = shadow_cache_create(delegate, "");
    OpGraph graph(kShape, 4);
    CHECK(graph.runtime.Apply(delegate) && graph.Run(0, 4, cache));
    if (i % 2 == 0) CHECK(shadow_cache_destroy(delegate, cache) == 0);
    if (i % 3 == 0) CHECK(shadow_set_num_threads(delegate, 2) == 0 && graph.Run(0, 4));
    tflite_plugin_destroy_delegate(delegate);
  }
}

void TestSignatures() {
  tflite::Delegate* delegate = Create("mode", "dense");
  CHECK(shadow_set_signatures(delegate, "decode,prefill_4") == 0);
  OpGraph closed(kShape, 4);
  closed.runtime.tensor(0).name = "prefill_8:tokens";
  CHECK(closed.runtime.Apply(delegate) && !closed.Run(0, 1));
  CHECK(Contains(closed.runtime.error(), "signature prefill_8 was not opened"));
  CHECK(shadow_set_signatures(delegate, "") == 0);
  OpGraph open(kShape, 4);
  open.runtime.tensor(0).name = "prefill_8:tokens";
  CHECK(open.runtime.Apply(delegate) && open.Run(0, 1));
  CHECK(!closed.Run(0, 1));  // the choice holds for interpreters made after it
  CHECK(shadow_set_signatures(nullptr, "") == -1);
  tflite_plugin_destroy_delegate(delegate);
}

void TestErrorsBelongToTheirThread() {
  CHECK(shadow_num_caches(nullptr) == -1);
  std::string other = "unset";
  std::thread([&] { other = shadow_last_error(); }).join();
  CHECK(other.empty() && Contains(shadow_last_error(), "no such delegate"));
}

}  // namespace

int main() {
  TestFacts();
  TestBuildInfo();
  TestCacheDefaults();
  TestObserved();
  TestRefusedCreation();
  TestCaches();
  TestStatistics();
  TestFactors();
  TestPointersKeptTooLong();
  TestSignatures();
  TestOpenAndClose();
  TestErrorsBelongToTheirThread();
  return Finish();
}
