// Every attend kernel of this machine against softmax in float64, one number at a time, within float32 epsilon times
// the magnitude of what is summed; and the promises that are about bits: StoreRow, and rows that do not depend on their
// tile.
#include <algorithm>
#include <cfloat>
#include <limits>
#include <numeric>

#include "kernels/attend/kernels.h"
#include "kernels/attend/test_cache.h"

namespace shadow {
namespace {

using testing::AlignedVector;
using testing::RandomInt;
using testing::RandomNormal;
using testing::TestCache;

constexpr int kDims[] = {1, 8, 17, 40, 64, 80, 96, 128, 256, 512};
constexpr CacheType kTypes[] = {CacheType::kFloat32, CacheType::kFloat16};

double worst = 0;  // largest error met, in units of the tolerance

struct Answer {
  std::vector<double> out;
  double score_magnitude = 0;  // largest sum of |scale * q * k|
};

Answer Oracle(const float* q, float scale, const TestCache& cache, const std::vector<int32_t>& positions) {
  const size_t d = static_cast<size_t>(cache.head_dim);
  Answer answer{std::vector<double>(d), 0};
  std::vector<double> scores;
  for (int32_t p : positions) {
    double sum = 0, magnitude = 0;
    for (size_t c = 0; c < d; ++c) {
      const double product =
          static_cast<double>(scale) * static_cast<double>(q[c]) * cache.k[static_cast<size_t>(p) * d + c];
      sum += product;
      magnitude += std::fabs(product);
    }
    scores.push_back(sum);
    answer.score_magnitude = std::fmax(answer.score_magnitude, magnitude);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double weight = std::exp(scores[i] - max);
    total += weight;
    for (size_t c = 0; c < d; ++c) answer.out[c] += weight * cache.v[static_cast<size_t>(positions[i]) * d + c];
  }
  for (double& o : answer.out) o /= total;
  return answer;
}

// A score is off by about epsilon times the magnitude of its products, a weight relatively by as much, and both the
// weighted sum and the sum of weights add their rounding. The magnitude of the values, which are normal, is 2.
void CheckRow(const float* out, const Answer& answer, const char* name, int d, int n) {
  const double tolerance = 2 * static_cast<double>(FLT_EPSILON) * (8 + 4 * answer.score_magnitude + std::log2(n));
  for (size_t c = 0; c < answer.out.size(); ++c) {
    const double error = std::fabs(static_cast<double>(out[c]) - answer.out[c]);
    worst = std::fmax(worst, error / tolerance);
    SHADOW_CHECK(error <= tolerance, "%s d %d n %d channel %zu: %g, not %g (tolerance %g)", name, d, n, c,
                 static_cast<double>(out[c]), answer.out[c], tolerance);
  }
}

AlignedVector<float> RandomQueries(int rows, int d) {
  const int padded = PaddedFloats(d);
  AlignedVector<float> q(static_cast<size_t>(rows * padded));
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < d; ++c) q[static_cast<size_t>(r * padded + c)] = RandomNormal();
  }
  return q;
}

// Output rows with a guard behind them, at any alignment.
struct Outputs {
  Outputs(int rows, int d) : stride(d + RandomInt(1, 5)), data(static_cast<size_t>(rows * stride + 16), kGuard) {
    const int begin = RandomInt(0, 15);
    for (int r = 0; r < rows; ++r) row.push_back(data.data() + begin + r * stride);
  }
  static constexpr float kGuard = 1234.5f;
  int stride;
  std::vector<float> data;
  std::vector<float*> row;
};

std::vector<int32_t> RandomPositions(int n, int k) {
  std::vector<int32_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), testing::generator);
  all.resize(static_cast<size_t>(k));
  std::sort(all.begin(), all.end());
  return all;
}

// Rows of ascending positions, each with the slack that the kernel may read.
struct Selection {
  Selection(int rows, int largest_k) : stride(largest_k + 16), positions(static_cast<size_t>(rows * stride), -1) {}
  void Add(const std::vector<int32_t>& row) {
    std::copy(row.begin(), row.end(), positions.begin() + static_cast<ptrdiff_t>(k.size()) * stride);
    k.push_back(static_cast<int32_t>(row.size()));
  }
  int stride;
  std::vector<int32_t> positions;
  std::vector<int32_t> k;
};

void RunSparse(AttendSparseFn kernel, const TestCache& cache, const float* q, const Selection& selection,
               float* const* out) {
  const int rows = static_cast<int>(selection.k.size());
  const int largest = *std::max_element(selection.k.begin(), selection.k.end());
  const int pages = static_cast<int>(cache.pages.size());
  AlignedVector<float> scratch(static_cast<size_t>(AttendSparseScratchFloats(rows, largest, pages, cache.head_dim)),
                               std::numeric_limits<float>::quiet_NaN());
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim));
  kernel({q, selection.positions.data(), selection.stride, selection.k.data(), out, rows, scale}, cache.view(),
         scratch.data());
}

void TestSparseTile(AttendSparseFn kernel, const char* name, const TestCache& cache, int rows, int k) {
  const int d = cache.head_dim, padded = PaddedFloats(d);
  const AlignedVector<float> q = RandomQueries(rows, d);
  Selection selection(rows, cache.n);
  std::vector<std::vector<int32_t>> positions;
  for (int r = 0; r < rows; ++r) {
    positions.push_back(RandomPositions(cache.n, r == 0 ? k : RandomInt(1, cache.n)));
    selection.Add(positions.back());
  }
  Outputs out(rows, d);
  RunSparse(kernel, cache, q.data(), selection, out.row.data());
  for (int r = 0; r < rows; ++r) {
    const std::vector<int32_t>& row = positions[static_cast<size_t>(r)];
    const float* out_r = out.row[static_cast<size_t>(r)];
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    CheckRow(out_r, Oracle(q.data() + r * padded, scale, cache, row), name, d, static_cast<int>(row.size()));
    SHADOW_CHECK(out_r[d] == Outputs::kGuard, "%s d %d: wrote past the row", name, d);

    Selection one(1, cache.n);
    one.Add(row);
    Outputs alone(1, d);
    RunSparse(kernel, cache, q.data() + r * padded, one, alone.row.data());
    SHADOW_CHECK(std::memcmp(alone.row[0], out_r, static_cast<size_t>(d) * sizeof(float)) == 0,
                 "%s d %d rows %d: row %d alone gives other bits", name, d, rows, r);
  }
}

void TestSparse(AttendSparseFn kernel, const char* name, CacheType type) {
  for (int d : kDims) {
    const TestCache cache(d > 128 ? 130 : 330, d, type, RandomInt(0, 1) != 0 ? 1.0f : 4.0f);
    for (int k : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, cache.n - 1, cache.n}) {
      TestSparseTile(kernel, name, cache, 1, k);
    }
    for (int rows : {2, 7, 8, 9, 20}) TestSparseTile(kernel, name, cache, rows, RandomInt(1, cache.n));
  }
}

void RunDense(AttendDenseFn kernel, const TestCache& cache, const float* q, const std::vector<int32_t>& causal,
              float* const* out) {
  const int rows = static_cast<int>(causal.size());
  AlignedVector<float> scratch(static_cast<size_t>(AttendDenseScratchFloats(rows, cache.head_dim)),
                               std::numeric_limits<float>::quiet_NaN());
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim));
  kernel({q, causal.data(), out, rows, scale}, cache.view(), scratch.data());
}

void TestDenseTile(AttendDenseFn kernel, const char* name, const TestCache& cache, int rows) {
  const int d = cache.head_dim, padded = PaddedFloats(d);
  const AlignedVector<float> q = RandomQueries(rows, d);
  const int edges[] = {1, 2, 63, 64, 65, 127, 128, 129, cache.n};
  std::vector<int32_t> causal;
  for (int r = 0; r < rows; ++r) {
    causal.push_back(std::min(cache.n, RandomInt(0, 1) != 0 ? edges[RandomInt(0, 8)] : RandomInt(1, cache.n)));
  }
  if (RandomInt(0, 1) != 0) std::sort(causal.begin(), causal.end());
  Outputs out(rows, d);
  RunDense(kernel, cache, q.data(), causal, out.row.data());
  for (int r = 0; r < rows; ++r) {
    std::vector<int32_t> positions(static_cast<size_t>(causal[static_cast<size_t>(r)]));
    std::iota(positions.begin(), positions.end(), 0);
    const float* q_r = q.data() + r * padded;
    const float* out_r = out.row[static_cast<size_t>(r)];
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    CheckRow(out_r, Oracle(q_r, scale, cache, positions), name, d, static_cast<int>(positions.size()));
    SHADOW_CHECK(out_r[d] == Outputs::kGuard, "%s d %d: wrote past the row", name, d);

    Outputs alone(1, d);
    RunDense(kernel, cache, q_r, {causal[static_cast<size_t>(r)]}, alone.row.data());
    SHADOW_CHECK(std::memcmp(alone.row[0], out_r, static_cast<size_t>(d) * sizeof(float)) == 0,
                 "%s d %d rows %d: row %d alone gives other bits", name, d, rows, r);
  }
}

void TestDense(AttendDenseFn kernel, const char* name, CacheType type) {
  for (int d : kDims) {
    for (int rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 29}) {
      const int n = d > 128 ? 70 : RandomInt(1, 300);
      TestDenseTile(kernel, name, TestCache(n, d, type, RandomInt(0, 1) != 0 ? 1.0f : 4.0f), rows);
    }
  }
}

std::vector<float> HalfCandidates() {
  std::vector<float> x = {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, 65536.0f, 1e30f, FLT_MAX, FLT_MIN, 1e-40f};
  for (int exponent = -27; exponent <= 17; ++exponent) {
    for (int i = 0; i < 40; ++i) {
      const int fraction = 4096 + RandomInt(0, 4095);  // two bits more than a half has: ties are common
      x.push_back(std::ldexp(static_cast<float>(fraction), exponent - 12) * (RandomInt(0, 1) != 0 ? 1.0f : -1.0f));
    }
  }
  for (int i = 0; i < 500; ++i) x.push_back(RandomNormal());
  return x;
}

void TestStoreRow(StoreRowFn f32, StoreRowFn f16, const char* name) {
  const std::vector<float> x = HalfCandidates();
  for (int d : {1, 7, 15, 16, 17, 40, 64, 80, 100, 512}) {
    const size_t padded = static_cast<size_t>(PaddedFloats(d)), length = static_cast<size_t>(d);
    for (size_t begin = 0; begin + length <= x.size(); begin += length) {
      AlignedVector<float> row(padded, 9.0f);
      AlignedVector<uint16_t> half(padded, uint16_t{9});
      f32(x.data() + begin, d, row.data());
      f16(x.data() + begin, d, half.data());
      for (size_t c = 0; c < padded; ++c) {
        const float value = c < length ? x[begin + c] : 0.0f;
        SHADOW_CHECK(std::memcmp(&row[c], &value, sizeof(value)) == 0, "%s d %d", name, d);
        const uint16_t expected = testing::SlowToHalf(static_cast<double>(value));
        SHADOW_CHECK(half[c] == expected, "%s d %d: %g gives %x, not %x", name, d, static_cast<double>(value), half[c],
                     expected);
      }
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                                                                   \
  if (testing::HasArch(#name, needed)) {                                                                              \
    TestStoreRow(StoreRowF32##name, StoreRowF16##name, #name);                                                        \
    TestSparse(AttendSparseF32##name, "SparseF32" #name, CacheType::kFloat32);                                        \
    TestSparse(AttendSparseF16##name, "SparseF16" #name, CacheType::kFloat16);                                        \
    TestDense(AttendDenseF32##name, "DenseF32" #name, CacheType::kFloat32);                                           \
    TestDense(AttendDenseF16##name, "DenseF16" #name, CacheType::kFloat16);                                           \
    for (CacheType type : kTypes) {                                                                                   \
      const bool f32 = type == CacheType::kFloat32;                                                                   \
      SHADOW_CHECK(GetAttendSparseKernel(needed, type) == (f32 ? AttendSparseF32##name : AttendSparseF16##name),      \
                   #name);                                                                                            \
      SHADOW_CHECK(GetAttendDenseKernel(needed, type) == (f32 ? AttendDenseF32##name : AttendDenseF16##name), #name); \
      SHADOW_CHECK(GetStoreRowKernel(needed, type) == (f32 ? StoreRowF32##name : StoreRowF16##name), #name);          \
    }                                                                                                                 \
  }
#include "kernels/attend/kernels.inc"
#undef SHADOW_KERNEL
  std::printf("  worst error: %.2f of the tolerance\n", worst);
}

}  // namespace
}  // namespace shadow

int main() {
  shadow::testing::Start("attend");
  shadow::TestAll();
  return shadow::testing::Finish();
}
