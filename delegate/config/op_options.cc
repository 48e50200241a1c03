#include "config/op_options.h"

#include <cmath>
#include <cstring>

#include "base/little_endian.h"
#include "kernels/layout.h"

namespace shadow {
namespace {

constexpr size_t kCrcOffset = kOpOptionsSize - 4;
// Far above any model, and small enough that a damaged number cannot ask for gigabytes.
constexpr int32_t kMaxHeads = 1 << 10;
constexpr int32_t kMaxLayers = 1 << 10;

Status CheckEnvelope(const uint8_t* bytes, size_t size) {
  if (bytes == nullptr || size != kOpOptionsSize) {
    return Status::Error("expected %zu option bytes, got %zu; convert the model again", kOpOptionsSize, size);
  }
  if (std::memcmp(bytes, "SHDW", 4) != 0) {
    return Status::Error("option bytes do not begin with SHDW; this op was not written by shadowattn");
  }
  const auto version = ReadField<uint16_t>(bytes, 4);
  if (version != kOpOptionsVersion) {
    return Status::Error("option bytes have version %d, this delegate knows %d; update shadowattn or convert again",
                         version, kOpOptionsVersion);
  }
  if (Crc32(bytes, kCrcOffset) != ReadField<uint32_t>(bytes, kCrcOffset)) {
    return Status::Error("option bytes have a wrong checksum; the model file is damaged, convert it again");
  }
  // The form with an op for each step had other flags, and a length in the reserved field.
  const auto flags = ReadField<uint16_t>(bytes, 6);
  const auto reserved = ReadField<int32_t>(bytes, 32);
  if (flags != kFused || reserved != 0) {
    return Status::Error("wanted flags %d and a reserved 0, got %d and %d; convert the model again", kFused, flags,
                         reserved);
  }
  return Status::Ok();
}

Status CheckShape(const OpOptions& o) {
  const bool heads_ok = o.num_heads >= 1 && o.num_heads <= kMaxHeads && o.num_kv_heads >= 1;
  if (!heads_ok || o.num_heads % o.num_kv_heads != 0) {
    return Status::Error("num_heads must be a multiple of num_kv_heads, got %d and %d", o.num_heads, o.num_kv_heads);
  }
  if (o.head_dim < 1 || o.head_dim > kMaxHeadDim) {
    return Status::Error("head_dim must be in 1..%d, got %d", kMaxHeadDim, o.head_dim);
  }
  if (!std::isfinite(o.softmax_scale)) return Status::Error("softmax scale must be finite");
  if (o.num_layers < 1 || o.num_layers > kMaxLayers || o.layer < 0 || o.layer >= o.num_layers) {
    return Status::Error("layer %d does not fit num_layers %d", o.layer, o.num_layers);
  }
  return Status::Ok();
}

}  // namespace

Status DecodeOpOptions(const void* data, size_t size, OpOptions* options) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  SHADOW_RETURN_IF_ERROR(CheckEnvelope(bytes, size));
  OpOptions o;
  o.layer = ReadField<int32_t>(bytes, 8);
  o.num_layers = ReadField<int32_t>(bytes, 12);
  o.num_heads = ReadField<int32_t>(bytes, 16);
  o.num_kv_heads = ReadField<int32_t>(bytes, 20);
  o.head_dim = ReadField<int32_t>(bytes, 24);
  o.softmax_scale = ReadField<float>(bytes, 28);
  SHADOW_RETURN_IF_ERROR(CheckShape(o));
  *options = o;
  return Status::Ok();
}

}  // namespace shadow
