// Random rows for benchmark_model, whose inputs mean nothing (option benchmark_rows).
#ifndef SHADOWATTN_DELEGATE_ENGINE_BENCHMARK_ROWS_H_
#define SHADOWATTN_DELEGATE_ENGINE_BENCHMARK_ROWS_H_

#include <cstdint>

#include "cache/chunk.h"
#include "cache/kv_cache.h"

namespace shadow {

// Makes the chunk one that follows `rows` random rows, whatever its integers are, and the cache's layer hold these
// rows. Throws std::bad_alloc.
void PrepareBenchmark(int64_t rows, ChunkInputs* in, KvCache* cache);

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ENGINE_BENCHMARK_ROWS_H_
