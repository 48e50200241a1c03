// What one call brings: the rows of one layer's chunk.
#ifndef SHADOWATTN_DELEGATE_CACHE_CHUNK_H_
#define SHADOWATTN_DELEGATE_CACHE_CHUNK_H_

#include <cstdint>

#include "config/op_options.h"

namespace shadow {

// Rows `position` .. `position + n_valid - 1` of a layer.
struct Chunk {
  int layer;
  int64_t position;
  int64_t n_valid;

  int64_t end() const { return position + n_valid; }  // of a checked chunk: far from overflow
};

struct ChunkInputs {
  OpOptions op;
  int32_t cache = 0;  // handle
  Chunk chunk{0, 0, 0};
  int64_t time = 0;          // T; rows from n_valid on are padding
  const float* q = nullptr;  // [T][H][d]
  const float* k = nullptr;  // [T][N_kv][d]; null: the cache holds the chunk's rows already
  const float* v = nullptr;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_CACHE_CHUNK_H_
