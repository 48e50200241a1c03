// Fields of our little-endian binary formats, and the checksum that ends them.
#ifndef SHADOWATTN_DELEGATE_BASE_LITTLE_ENDIAN_H_
#define SHADOWATTN_DELEGATE_BASE_LITTLE_ENDIAN_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace shadow {

#if defined(__BYTE_ORDER__)
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are read in place");
#endif

template <typename T>
T ReadField(const uint8_t* bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes + offset, sizeof(T));
  return value;
}

// The CRC-32 of zlib.
uint32_t Crc32(const uint8_t* bytes, size_t size);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_BASE_LITTLE_ENDIAN_H_
