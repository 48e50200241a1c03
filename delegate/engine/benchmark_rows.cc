#include "engine/benchmark_rows.h"

#include <algorithm>
#include <vector>

namespace shadow {
namespace {

// A small multiplicative generator: the rows must only be the same on every machine.
class RandomFloats {
 public:
  explicit RandomFloats(uint64_t seed) : state_(seed * 2 + 1) {}
  void Fill(std::vector<float>* values) {
    for (float& value : *values) value = Next();
  }

 private:
  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return float(int32_t(state_ >> 32)) * (1.0f / 1073741824.0f);  // [-2, 2)
  }
  uint64_t state_;
};

void AppendRandomRows(const ChunkInputs& in, int64_t count, KvCache* cache) {
  constexpr int64_t kBlock = 256;
  const int layer = in.chunk.layer;
  std::vector<float> k(kBlock * in.op.num_kv_heads * in.op.head_dim), v(k.size());
  for (int64_t position = cache->length(layer); position < count; position = cache->length(layer)) {
    RandomFloats random(uint64_t(layer) << 32 | uint64_t(position));
    random.Fill(&k);
    random.Fill(&v);
    ChunkInputs rows = in;
    rows.chunk = {layer, position, std::min(kBlock, count - position)};
    rows.k = k.data();
    rows.v = v.data();
    cache->AssumeLength(rows.chunk, position);
    cache->Append(rows, nullptr);
  }
}

}  // namespace

void PrepareBenchmark(int64_t rows, ChunkInputs* in, KvCache* cache) {
  Chunk& chunk = in->chunk;
  chunk.layer = std::clamp(chunk.layer, 0, in->op.num_layers - 1);
  chunk.position = rows;
  chunk.n_valid = std::clamp<int64_t>(chunk.n_valid, 1, in->time);
  AppendRandomRows(*in, rows, cache);
  cache->AssumeLength(chunk, rows);
}

}  // namespace shadow
