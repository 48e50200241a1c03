#include "attention/tile_rows.h"

#include <algorithm>
#include <cstring>

namespace shadow {

void LoadQuery(const TileRows& rows, int64_t r, float* query) {
  const int d = rows.job().op().head_dim;
  std::memcpy(query, rows.Query(r), d * sizeof(float));
  std::fill(query + d, query + PaddedFloats(d), 0.0f);
}

const float* LoadQueries(const TileRows& rows, int64_t begin, Scratch* scratch) {
  const int64_t stride = PaddedFloats(rows.job().op().head_dim);
  float* q = scratch->q.Reserve((rows.count() - begin) * stride);
  for (int64_t r = begin; r < rows.count(); ++r) LoadQuery(rows, r, q + (r - begin) * stride);
  return q;
}

}  // namespace shadow
