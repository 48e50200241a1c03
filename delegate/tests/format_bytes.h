// Writers of the binary formats the delegate reads, for tests that need good and damaged ones.
#ifndef SHADOWATTN_DELEGATE_TESTS_FORMAT_BYTES_H_
#define SHADOWATTN_DELEGATE_TESTS_FORMAT_BYTES_H_

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/little_endian.h"
#include "config/op_options.h"

namespace shadow::testing {

using Bytes = std::vector<uint8_t>;

template <typename T>
void Put(Bytes* bytes, T value) {
  const auto* raw = reinterpret_cast<const uint8_t*>(&value);
  for (size_t i = 0; i < sizeof(T); ++i) bytes->push_back(raw[i]);
}

inline void PutText(Bytes* bytes, const char* text) {
  for (; *text != 0; ++text) bytes->push_back(static_cast<uint8_t>(*text));
}

// Makes the last four bytes the checksum of what precedes them.
inline void Seal(Bytes* bytes) {
  const uint32_t crc = Crc32(bytes->data(), bytes->size() - 4);
  std::memcpy(bytes->data() + bytes->size() - 4, &crc, sizeof(crc));
}

inline Bytes PackOpOptions(const OpOptions& o) {
  Bytes bytes;
  PutText(&bytes, "SHDW");
  Put(&bytes, kOpOptionsVersion);
  Put(&bytes, kFused);
  for (int32_t field : {o.layer, o.num_layers, o.num_heads, o.num_kv_heads, o.head_dim}) Put(&bytes, field);
  Put(&bytes, o.softmax_scale);
  Put(&bytes, int32_t{0});
  Put(&bytes, uint32_t{0});
  Seal(&bytes);
  return bytes;
}

struct PlanShape {
  int32_t num_layers;
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};

// q_scales [nq], k_scales [nk], score_scales [nq][nk]; empty: no grid.
struct PackedGrid {
  std::vector<float> q_scales, k_scales, score_scales;
};

// A plan whose centre is `centre` and scale `scale` everywhere; its threshold selects about a share: 1 / (4 share
// length).
inline Bytes PackPlan(const PlanShape& shape, float centre, float scale, float multiplier = 1.0f / 256,
                      const PackedGrid& grid = {}) {
  Bytes bytes;
  PutText(&bytes, "SHPL");
  Put(&bytes, uint32_t{3});
  for (int32_t field : {shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.head_dim}) Put(&bytes, field);
  Put(&bytes, multiplier);
  Put(&bytes, 1.0f / 64);  // auto_threshold
  const float ratios[] = {0.01f, 0.1f, 1.0f}, lengths[] = {64.0f, 256.0f};
  Put(&bytes, uint32_t{3});
  Put(&bytes, uint32_t{2});
  Put(&bytes, uint32_t(grid.q_scales.size()));
  Put(&bytes, uint32_t(grid.k_scales.size()));
  for (float ratio : ratios) Put(&bytes, ratio);
  for (float length : lengths) Put(&bytes, length);
  for (float ratio : ratios) {
    for (float length : lengths) Put(&bytes, 1.0f / (1.0f + 4 * ratio * length));
  }
  for (const auto* scales : {&grid.q_scales, &grid.k_scales, &grid.score_scales}) {
    for (float scale : *scales) Put(&bytes, scale);
  }
  const int wide = shape.num_kv_heads * shape.head_dim;
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    for (int i = 0; i < wide; ++i) Put(&bytes, centre);
    for (int i = 0; i < shape.num_kv_heads; ++i) Put(&bytes, scale);
    for (int i = 0; i < wide; ++i) Put(&bytes, 1000.0f);
    for (int i = 0; i < shape.num_heads; ++i) Put(&bytes, i % 2 == 0 ? 1.0f : 0.5f);    // threshold factors
    for (int i = 0; i < shape.num_heads; ++i) Put(&bytes, i % 2 == 0 ? 0.75f : 1.25f);  // paper budgets
    for (float range : {4.0f, 4.0f, 4.0f, 64.0f, 4.0f}) Put(&bytes, range);
  }
  Put(&bytes, uint32_t{0});
  Seal(&bytes);
  return bytes;
}

inline Bytes ReadBytes(const std::string& path) {
  Bytes bytes;
  if (std::FILE* file = std::fopen(path.c_str(), "rb")) {
    for (int byte = std::fgetc(file); byte != EOF; byte = std::fgetc(file)) bytes.push_back(uint8_t(byte));
    std::fclose(file);
  }
  return bytes;
}

inline void WriteBytes(const std::string& path, const Bytes& bytes) {
  if (std::FILE* file = std::fopen(path.c_str(), "wb")) {
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
  }
}

}  // namespace shadow::testing

#endif  // SHADOWATTN_DELEGATE_TESTS_FORMAT_BYTES_H_
