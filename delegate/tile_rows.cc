#include "tile_rows.h"

#include <algorithm>
#include <cstring>

namespace shadow {

const float* LoadQueries(const TileRows& rows, int64_t begin, Scratch* scratch) {
  const int d = rows.job().op.head_dim;
  const int64_t stride = PaddedFloats(d);
  float* q = scratch->q.Reserve((rows.count() - begin) * stride);
  for (int64_t r = begin; r < rows.count(); ++r) {
    float* row = q + (r - begin) * stride;
    std::memcpy(row, rows.Query(r), d * sizeof(float));
    std::fill(row + d, row + stride, 0.0f);
  }
  return q;
}

}  // namespace shadow
