#include "engine/options.h"

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

// The shortest text that reads as the number again.
std::string FormatNumber(double number) {
  for (int digits = 1;; ++digits) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream.precision(digits);
    stream << number;
    double read = 0;
    if (digits == std::numeric_limits<double>::max_digits10 || (ParseNumber(stream.str(), &read) && read == number))
      return stream.str();
  }
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

// A number in [0, 1). wanted: what it means.
Status ParseShare(const std::string& key, const std::string& value, const char* wanted, double* share) {
  double number = 0;
  if (!ParseNumber(value, &number) || !(number >= 0.0 && number < 1.0)) {
    return Status::Error("option %s must be %s, got '%s'", key.c_str(), wanted, value.c_str());
  }
  *share = number;
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

Status ParseCompensate(const std::string& value, bool* compensate) {
  if (value != "on" && value != "off")
    return Status::Error("option compensate must be on or off, got '%s'", value.c_str());
  *compensate = value == "on";
  return Status::Ok();
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

// One key of a cache: whether it may change once rows are stored, and its two directions.
struct CacheKey {
  const char* name;
  bool in_use;
  Status (*parse)(const std::string& value, CacheSettings* settings);
  std::string (*format)(const CacheSettings& settings);
};

using Text = const std::string&;
using Settings = const CacheSettings&;

const CacheKey kCacheKeys[] = {
    {"mode", true, [](Text v, CacheSettings* s) { return FindMode(v, &s->mode); },
     [](Settings s) { return std::string(s.mode->name); }},
    {"keep_ratio", true, [](Text v, CacheSettings* s) { return ParseKeepRatio(v, &s->keep_ratio); },
     [](Settings s) { return s.keep_ratio == kAutoKeepRatio ? "auto" : FormatNumber(s.keep_ratio); }},
    {"threshold", true,
     [](Text v, CacheSettings* s) {
       return ParseShare("threshold", v, "a probability in [0, 1), 0 for that of keep_ratio", &s->threshold);
     },
     [](Settings s) { return FormatNumber(s.threshold); }},
    {"compensate", true, [](Text v, CacheSettings* s) { return ParseCompensate(v, &s->compensate); },
     [](Settings s) { return std::string(s.compensate ? "on" : "off"); }},
    {"min_k", true, [](Text v, CacheSettings* s) { return ParseInteger("min_k", v, 1, kLongestCache, &s->min_k); },
     [](Settings s) { return std::to_string(s.min_k); }},
    {"sinks", true, [](Text v, CacheSettings* s) { return ParseInteger("sinks", v, 0, kLongestCache, &s->sinks); },
     [](Settings s) { return std::to_string(s.sinks); }},
    {"latest", true, [](Text v, CacheSettings* s) { return ParseInteger("latest", v, 0, kLongestCache, &s->latest); },
     [](Settings s) { return std::to_string(s.latest); }},
    {"max_skipped_mass", true,
     [](Text v, CacheSettings* s) {
       return ParseShare("max_skipped_mass", v, "a share of the mass in [0, 1), 0 to score every page",
                         &s->max_skipped_mass);
     },
     [](Settings s) { return FormatNumber(s.max_skipped_mass); }},
    {"cache_type", false, [](Text v, CacheSettings* s) { return ParseCacheType(v, &s->cache_type); },
     [](Settings s) { return std::string(s.cache_type == CacheType::kFloat32 ? "f32" : "f16"); }},
    {"max_length", false,
     [](Text v, CacheSettings* s) { return ParseInteger("max_length", v, 1, kLongestCache, &s->max_length); },
     [](Settings s) { return std::to_string(s.max_length); }},
};

std::string CacheKeyNames(CacheStage stage) {
  std::string names;
  for (const CacheKey& key : kCacheKeys) {
    if (stage == CacheStage::kInUse && !key.in_use) continue;
    names += std::string(names.empty() ? "" : ", ") + key.name;
  }
  return names;
}

// *known: whether the key is one of a cache's.
Status SetCacheKey(Text name, Text value, CacheStage stage, CacheSettings* settings, bool* known) {
  *known = true;
  for (const CacheKey& key : kCacheKeys) {
    if (name == key.name && (key.in_use || stage == CacheStage::kCreation)) return key.parse(value, settings);
  }
  *known = false;
  return Status::Ok();
}

Status UnknownKey(Text key, Text allowed) {
  return Status::Error("unknown option '%s'; allowed are %s", key.c_str(), allowed.c_str());
}

Status SetDelegateKey(Text key, Text value, DelegateOptions* o) {
  if (key == "num_threads") return ParseInteger(key, value, 1, kMaxThreads, &o->num_threads);
  if (key == "isa") return ParseIsa(value, &o->arch);
  if (key == "verbosity") return ParseInteger(key, value, 0, 2, &o->verbosity);
  if (key == "benchmark_rows") return ParseInteger(key, value, 0, kLongestCache, &o->benchmark_rows);
  if (key == "plan" || key == "signatures") {
    (key == "plan" ? o->plan : o->signatures) = value;
    return Status::Ok();
  }
  bool known = false;
  SHADOW_RETURN_IF_ERROR(SetCacheKey(key, value, CacheStage::kCreation, &o->cache, &known));
  if (known) return Status::Ok();
  return UnknownKey(key, "num_threads, " + CacheKeyNames(CacheStage::kCreation) +
                             ", plan, signatures, isa, verbosity, benchmark_rows");
}

}  // namespace

Status ParseDelegateOptions(const char* const* keys, const char* const* values, size_t count,
                            DelegateOptions* options) {
  DelegateOptions o;
  SHADOW_RETURN_IF_ERROR(ParseIsa("auto", &o.arch));
  if (count > 0 && (keys == nullptr || values == nullptr))
    return Status::Error("options were announced but not passed");
  for (size_t i = 0; i < count; ++i) {
    if (keys[i] == nullptr || values[i] == nullptr) return Status::Error("option %zu has no key or no value", i);
    SHADOW_RETURN_IF_ERROR(SetDelegateKey(keys[i], values[i], &o));
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
    bool known = false;
    SHADOW_RETURN_IF_ERROR(SetCacheKey(key, item.substr(equals + 1), stage, &s, &known));
    if (!known) return UnknownKey(key, CacheKeyNames(stage));
  }
  *settings = s;
  return Status::Ok();
}

std::string FormatCacheSettings(const CacheSettings& settings) {
  std::string text;
  for (const CacheKey& key : kCacheKeys) {
    text += std::string(text.empty() ? "" : ";") + key.name + "=" + key.format(settings);
  }
  return text;
}

}  // namespace shadow
