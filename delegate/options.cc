#include "options.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <locale>
#include <sstream>

namespace shadow {
namespace {

// Not strtod: that reads "0,2" instead of "0.2" under some locales.
template <typename T>
bool ParseNumber(const std::string& text, T* number) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  stream >> std::noskipws >> *number;
  return !stream.fail() && stream.peek() == std::istringstream::traits_type::eof();
}

template <typename T>
Status ParseInteger(const std::string& key, const std::string& value, int64_t low, int64_t high, T* out) {
  int64_t number = 0;
  if (!ParseNumber(value, &number) || number < low || number > high) {
    return Status::Error("option %s must be a whole number in %lld..%lld, got '%s'", key.c_str(),
                         static_cast<long long>(low), static_cast<long long>(high), value.c_str());
  }
  *out = static_cast<T>(number);
  return Status::Ok();
}

Status ParseKeepRatio(const std::string& value, double* keep_ratio) {
  double number = kAutoKeepRatio;
  if (value != "auto" && (!ParseNumber(value, &number) || !(number > 0.0 && number <= 1.0))) {
    return Status::Error("option keep_ratio must be auto, or above 0 and at most 1, got '%s'", value.c_str());
  }
  *keep_ratio = number;
  return Status::Ok();
}

Status ParseThreshold(const std::string& value, double* threshold) {
  double number = 0;
  if (!ParseNumber(value, &number) || !(number >= 0.0 && number < 1.0)) {
    return Status::Error("option threshold must be a probability in [0, 1), 0 for that of keep_ratio, got '%s'",
                         value.c_str());
  }
  *threshold = number;
  return Status::Ok();
}

Status ParseMaxSkippedMass(const std::string& value, double* max_skipped_mass) {
  double number = 0;
  if (!ParseNumber(value, &number) || !(number >= 0.0 && number < 1.0)) {
    return Status::Error(
        "option max_skipped_mass must be a share of the mass in [0, 1), 0 to score every page, got '%s'",
        value.c_str());
  }
  *max_skipped_mass = number;
  return Status::Ok();
}

Status ParseCompensate(const std::string& value, bool* compensate) {
  if (value != "on" && value != "off")
    return Status::Error("option compensate must be on or off, got '%s'", value.c_str());
  *compensate = value == "on";
  return Status::Ok();
}

constexpr Mode kModes[] = {Mode::kShadow,        Mode::kDense,       Mode::kInt8,   Mode::kShadowPaper,
                           Mode::kFloatEstimate, Mode::kBlockSparse, Mode::kNpuFull};

Status ParseMode(const std::string& value, Mode* mode) {
  std::string names;
  for (Mode candidate : kModes) {
    if (value == ModeName(candidate)) {
      *mode = candidate;
      return Status::Ok();
    }
    names += names.empty() ? "" : ", ";
    names += ModeName(candidate);
  }
  return Status::Error("option mode must be one of %s, got '%s'", names.c_str(), value.c_str());
}

Status ParseCacheType(const std::string& value, CacheType* type) {
  if (value != "f16" && value != "f32") {
    return Status::Error("option cache_type must be f16 or f32, got '%s'", value.c_str());
  }
  *type = value == "f32" ? CacheType::kFloat32 : CacheType::kFloat16;
  return Status::Ok();
}

Status ParseIsa(const std::string& value, ArchFlags* arch) {
  const char* message = "";
  if (!ArchFromName(value.c_str(), arch, &message)) return Status::Error("option isa=%s: %s", value.c_str(), message);
  return Status::Ok();
}

#define SHADOW_IN_USE_KEYS "mode, keep_ratio, threshold, compensate, min_k, sinks, latest, max_skipped_mass"
#define SHADOW_CREATION_KEYS SHADOW_IN_USE_KEYS ", cache_type, max_length"
constexpr char kInUseKeys[] = SHADOW_IN_USE_KEYS;
constexpr char kCreationKeys[] = SHADOW_CREATION_KEYS;
constexpr char kDelegateKeys[] =
    "num_threads, " SHADOW_CREATION_KEYS ", plan, signatures, isa, verbosity, benchmark_rows";

// *known says whether the key is one of these.
Status SetInUse(const std::string& key, const std::string& value, CacheSettings* s, bool* known) {
  *known = true;
  if (key == "mode") return ParseMode(value, &s->mode);
  if (key == "keep_ratio") return ParseKeepRatio(value, &s->keep_ratio);
  if (key == "threshold") return ParseThreshold(value, &s->threshold);
  if (key == "compensate") return ParseCompensate(value, &s->compensate);
  if (key == "min_k") return ParseInteger(key, value, 1, kLongestCache, &s->min_k);
  if (key == "sinks") return ParseInteger(key, value, 0, kLongestCache, &s->sinks);
  if (key == "max_skipped_mass") return ParseMaxSkippedMass(value, &s->max_skipped_mass);
  if (key == "latest") return ParseInteger(key, value, 0, kLongestCache, &s->latest);
  *known = false;
  return Status::Ok();
}

Status SetCreation(const std::string& key, const std::string& value, CacheSettings* s, bool* known) {
  *known = true;
  if (key == "cache_type") return ParseCacheType(value, &s->cache_type);
  if (key == "max_length") return ParseInteger(key, value, 1, kLongestCache, &s->max_length);
  return SetInUse(key, value, s, known);
}

Status SetDelegate(const std::string& key, const std::string& value, DelegateOptions* o, bool* known) {
  *known = true;
  if (key == "num_threads") return ParseInteger(key, value, 1, kMaxThreads, &o->num_threads);
  if (key == "isa") return ParseIsa(value, &o->arch);
  if (key == "verbosity") return ParseInteger(key, value, 0, 2, &o->verbosity);
  if (key == "benchmark_rows") return ParseInteger(key, value, 0, kLongestCache, &o->benchmark_rows);
  if (key == "plan" || key == "signatures") {
    (key == "plan" ? o->plan : o->signatures) = value;
    return Status::Ok();
  }
  return SetCreation(key, value, &o->cache, known);
}

Status UnknownKey(const std::string& key, const char* allowed) {
  return Status::Error("unknown option '%s'; allowed are %s", key.c_str(), allowed);
}

}  // namespace

const char* ModeName(Mode mode) {
  switch (mode) {
    case Mode::kShadow:
      return "shadow";
    case Mode::kDense:
      return "dense";
    case Mode::kInt8:
      return "int8";
    case Mode::kShadowPaper:
      return "shadow_paper";
    case Mode::kFloatEstimate:
      return "float_estimate";
    case Mode::kBlockSparse:
      return "block_sparse";
    case Mode::kNpuFull:
      return "npu_full";
  }
  return "unknown";
}

Status ParseDelegateOptions(const char* const* keys, const char* const* values, size_t count,
                            DelegateOptions* options) {
  DelegateOptions o;
  SHADOW_RETURN_IF_ERROR(ParseIsa("auto", &o.arch));
  if (count > 0 && (keys == nullptr || values == nullptr))
    return Status::Error("options were announced but not passed");
  for (size_t i = 0; i < count; ++i) {
    if (keys[i] == nullptr || values[i] == nullptr) return Status::Error("option %zu has no key or no value", i);
    bool known = false;
    SHADOW_RETURN_IF_ERROR(SetDelegate(keys[i], values[i], &o, &known));
    if (!known) return UnknownKey(keys[i], kDelegateKeys);
  }
  if (o.benchmark_rows >= o.cache.max_length) {
    return Status::Error("option benchmark_rows must be below max_length %lld, got %lld; raise max_length",
                         static_cast<long long>(o.cache.max_length), static_cast<long long>(o.benchmark_rows));
  }
  *options = o;
  return Status::Ok();
}

Status ParseCacheSettings(const char* text, CacheStage stage, CacheSettings* settings) {
  CacheSettings s = *settings;
  std::istringstream stream(text == nullptr ? "" : text);
  std::string item;
  while (std::getline(stream, item, ';')) {
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    if (equals == std::string::npos) return Status::Error("expected key=value, got '%s'", item.c_str());
    const std::string key = item.substr(0, equals);
    const std::string value = item.substr(equals + 1);
    bool known = false;
    SHADOW_RETURN_IF_ERROR(stage == CacheStage::kCreation ? SetCreation(key, value, &s, &known)
                                                          : SetInUse(key, value, &s, &known));
    if (!known) return UnknownKey(key, stage == CacheStage::kCreation ? kCreationKeys : kInUseKeys);
  }
  *settings = s;
  return Status::Ok();
}

}  // namespace shadow
