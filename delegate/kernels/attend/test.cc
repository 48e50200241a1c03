// Every attend kernel of this machine against softmax in float64, one number at a time, within float32 epsilon times
// the magnitude of what is summed. Compared bit by bit: StoreRow, and a row alone against the same row in a tile.
#include <algorithm>
#include <cfloat>
#include <limits>
#include <numeric>
#include <utility>

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
  std::vector<double> magnitude;  // of each output: the sum of weights times |values|
  double score_magnitude = 0;     // largest sum of |scale * q * k|
};

Answer Oracle(const float* q, float scale, const TestCache& cache, const std::vector<int32_t>& positions) {
  const size_t d = static_cast<size_t>(cache.head_dim);
  Answer answer{std::vector<double>(d), std::vector<double>(d), 0};
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
    for (size_t c = 0; c < d; ++c) {
      const double product = weight * cache.v[static_cast<size_t>(positions[i]) * d + c];
      answer.out[c] += product;
      answer.magnitude[c] += std::fabs(product);
    }
  }
  for (double& o : answer.out) o /= total;
  for (double& m : answer.magnitude) m /= total;
  return answer;
}

// A score is off by about epsilon times the magnitude of its products, a weight relatively by as much, and both the
// weighted sum and the sum of weights add their rounding. The magnitude of the values, which are normal, is 2.
void CheckRow(const float* out, const Answer& answer, const char* name, int d, int n, bool allow_fp16 = false) {
  const double exact = 2 * static_cast<double>(FLT_EPSILON) * (8 + 4 * answer.score_magnitude + std::log2(n));
  for (size_t c = 0; c < answer.out.size(); ++c) {
    const double tolerance =
        exact + (allow_fp16 ? std::ldexp(answer.magnitude[c], -9) + n * std::ldexp(1.0, -25) : 0.0);
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

// Output rows with a guard value after each, at any alignment.
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

// Selected positions of some rows, ascending, each with the slack that the kernel may read.
struct SelectedRows {
  SelectedRows(int rows, int largest_k) : stride(largest_k + 16), positions(static_cast<size_t>(rows * stride), -1) {}
  void Add(const std::vector<int32_t>& row) {
    std::copy(row.begin(), row.end(), positions.begin() + static_cast<ptrdiff_t>(k.size()) * stride);
    k.push_back(static_cast<int32_t>(row.size()));
  }
  Selection view() const { return {positions.data(), stride, k.data(), static_cast<int>(k.size())}; }
  int stride;
  std::vector<int32_t> positions;
  std::vector<int32_t> k;
};

// The two kernels of sparse attention.
struct Sparse {
  SoftmaxSelectedFn softmax;
  AddValuesFn add;
  bool allow_fp16 = false;
};

// Residual compensation: page_residual [pages][rows] times page_sums [pages][padded] is added to the selected values.
struct Residual {
  std::vector<float> page_residual;
  AlignedVector<float> page_sums;
};

void RunSparse(const Sparse& kernel, const TestCache& cache, const float* q, const SelectedRows& selected,
               const Residual* residual, float* const* out) {
  const int rows = static_cast<int>(selected.k.size()), padded = PaddedFloats(cache.head_dim);
  const int pages = cache.n / kPageRows, stride = (cache.n + 15) / 16 * 16 + 16;
  AlignedVector<float> scratch(static_cast<size_t>(SparseScratchFloats(rows, cache.head_dim)),
                               std::numeric_limits<float>::quiet_NaN());
  AlignedVector<float> weights(static_cast<size_t>(rows * stride)), start(static_cast<size_t>(rows * padded));
  std::vector<float> factor(static_cast<size_t>(rows));
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim));
  kernel.softmax({q, selected.view(), scale, weights.data(), stride, factor.data()}, cache.view(), scratch.data());
  for (float& sum : factor) sum = 1.0f / sum;
  ValueTile tile{selected.view(), weights.data(), stride, nullptr,          0, nullptr, 0,
                 start.data(),    factor.data(),  out,    kernel.allow_fp16};
  if (residual != nullptr) {
    tile.page_residual = residual->page_residual.data();
    tile.page_residual_stride = rows;
    tile.page_sums = residual->page_sums.data();
    tile.pages = pages;
  }
  kernel.add(tile, cache.view());
}

void TestSparseTile(const Sparse& kernel, const char* name, const TestCache& cache, int rows, int k) {
  const int d = cache.head_dim, padded = PaddedFloats(d);
  const AlignedVector<float> q = RandomQueries(rows, d);
  SelectedRows selected(rows, cache.n);
  std::vector<std::vector<int32_t>> positions;
  for (int r = 0; r < rows; ++r) {
    positions.push_back(RandomPositions(cache.n, r == 0 ? k : RandomInt(1, cache.n)));
    selected.Add(positions.back());
  }
  Outputs out(rows, d);
  RunSparse(kernel, cache, q.data(), selected, nullptr, out.row.data());
  for (int r = 0; r < rows; ++r) {
    const std::vector<int32_t>& row = positions[static_cast<size_t>(r)];
    const float* out_r = out.row[static_cast<size_t>(r)];
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    CheckRow(out_r, Oracle(q.data() + r * padded, scale, cache, row), name, d, static_cast<int>(row.size()),
             kernel.allow_fp16);
    SHADOW_CHECK(out_r[d] == Outputs::kGuard, "%s d %d: wrote past the row", name, d);

    SelectedRows one(1, cache.n);
    one.Add(row);
    Outputs alone(1, d);
    RunSparse(kernel, cache, q.data() + r * padded, one, nullptr, alone.row.data());
    SHADOW_CHECK(std::memcmp(alone.row[0], out_r, static_cast<size_t>(d) * sizeof(float)) == 0,
                 "%s d %d rows %d: row %d alone gives other bits", name, d, rows, r);
  }
}

// Rows with residual compensation: the value of one selected position of weight 1, and the residual added to it.
void TestResidual(const Sparse& kernel, const char* name, const TestCache& cache, int rows) {
  const int d = cache.head_dim, padded = PaddedFloats(d), pages = cache.n / kPageRows;
  const AlignedVector<float> q = RandomQueries(rows, d);
  SelectedRows selected(rows, cache.n);
  for (int r = 0; r < rows; ++r) selected.Add(RandomPositions(cache.n, 1));  // its weight is 1, and so is the sum
  Residual residual{std::vector<float>(static_cast<size_t>(rows * pages)),
                    AlignedVector<float>(static_cast<size_t>(pages * padded))};
  for (float& weight : residual.page_residual) weight = RandomNormal();
  for (int b = 0; b < pages; ++b) {
    for (int c = 0; c < d; ++c) residual.page_sums[static_cast<size_t>(b * padded + c)] = RandomNormal();
  }
  Outputs out(rows, d);
  RunSparse(kernel, cache, q.data(), selected, &residual, out.row.data());
  for (int r = 0; r < rows; ++r) {
    const auto position = static_cast<size_t>(selected.positions[static_cast<size_t>(r * selected.stride)]);
    for (int c = 0; c < d; ++c) {
      double sum = cache.v[position * static_cast<size_t>(d) + static_cast<size_t>(c)], magnitude = 1 + std::fabs(sum);
      for (int b = 0; b < pages; ++b) {
        const double product = static_cast<double>(residual.page_residual[static_cast<size_t>(b * rows + r)]) *
                               static_cast<double>(residual.page_sums[static_cast<size_t>(b * padded + c)]);
        sum += product;
        magnitude += std::fabs(product);
      }
      const double error = std::fabs(static_cast<double>(out.row[static_cast<size_t>(r)][c]) - sum);
      SHADOW_CHECK(error <= (kernel.allow_fp16 ? 0x1p-9 : 4 * static_cast<double>(FLT_EPSILON)) * magnitude,
                   "%s d %d rows %d: off by %g", name, d, rows, error);
    }
  }
}

void TestSumValues(SumValuesFn kernel, const char* name, const TestCache& cache) {
  const int d = cache.head_dim;
  for (const auto& [begin, end] : {std::pair<int, int>{0, 64}, {0, 1}, {5, 37}, {9, 9}}) {
    AlignedVector<float> sum(static_cast<size_t>(PaddedFloats(d)), 0.5f);
    kernel(cache.pages[0].v, begin, end, d, sum.data());
    for (int c = 0; c < d; ++c) {
      float expected = 0.5f;  // the same additions, one by one: the same bits
      for (int i = begin; i < end; ++i) expected += static_cast<float>(cache.v[static_cast<size_t>(i * d + c)]);
      SHADOW_CHECK(sum[static_cast<size_t>(c)] == expected, "%s d %d [%d, %d)", name, d, begin, end);
    }
  }
}

void TestScorePage(ScorePageFn kernel, const char* name, const TestCache& cache, int rows) {
  const int d = cache.head_dim, padded = PaddedFloats(d), stride = kPageRows + 16;
  const AlignedVector<float> q = RandomQueries(rows, d);
  AlignedVector<float> scratch(static_cast<size_t>(padded * kPageRows)), scores(static_cast<size_t>(rows * stride));
  kernel({q.data(), rows, d, 0.25f, scores.data(), stride}, cache.pages[0].k, scratch.data());
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < kPageRows; ++j) {
      double sum = 0, magnitude = 0;
      for (int c = 0; c < d; ++c) {
        const double product = 0.25 * static_cast<double>(q[static_cast<size_t>(r * padded + c)]) *
                               cache.k[static_cast<size_t>(j * d + c)];
        sum += product;
        magnitude += std::fabs(product);
      }
      const double error = std::fabs(static_cast<double>(scores[static_cast<size_t>(r * stride + j)]) - sum);
      SHADOW_CHECK(error <= static_cast<double>(FLT_EPSILON) * (2 + magnitude * 4), "%s d %d row %d key %d: off by %g",
                   name, d, r, j, error);
    }
  }
}

void TestSparse(const Sparse& kernel, const char* name, CacheType type) {
  for (int d : kDims) {
    const TestCache cache(d > 128 ? 130 : 330, d, type, RandomInt(0, 1) != 0 ? 1.0f : 4.0f);
    for (int k : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 65, cache.n - 1, cache.n}) {
      TestSparseTile(kernel, name, cache, 1, k);
    }
    for (int rows : {2, 7, 8, 9, 20}) TestSparseTile(kernel, name, cache, rows, RandomInt(1, cache.n));
    for (int rows : {1, 5, 6, 7, 13}) TestResidual(kernel, name, cache, rows);
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

void TestPages(SumValuesFn sum, ScorePageFn score, const char* name, CacheType type) {
  for (int d : kDims) {
    const TestCache cache(kPageRows, d, type, 1.0f);
    TestSumValues(sum, name, cache);
    for (int rows : {1, 5, 6, 7, 13}) TestScorePage(score, name, cache, rows);
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

std::vector<float> Fp16Candidates() {
  std::vector<float> x = {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, 65536.0f, 1e30f, FLT_MAX, FLT_MIN, 1e-40f};
  for (int exponent = -27; exponent <= 17; ++exponent) {
    for (int i = 0; i < 40; ++i) {
      const int fraction = 4096 + RandomInt(0, 4095);  // two bits more than FP16 has, so that ties are common
      x.push_back(std::ldexp(static_cast<float>(fraction), exponent - 12) * (RandomInt(0, 1) != 0 ? 1.0f : -1.0f));
    }
  }
  for (int i = 0; i < 500; ++i) x.push_back(RandomNormal());
  return x;
}

void TestStoreRow(StoreRowFn f32, StoreRowFn f16, const char* name) {
  const std::vector<float> x = Fp16Candidates();
  for (int d : {1, 7, 15, 16, 17, 40, 64, 80, 100, 512}) {
    const size_t padded = static_cast<size_t>(PaddedFloats(d)), length = static_cast<size_t>(d);
    for (size_t begin = 0; begin + length <= x.size(); begin += length) {
      AlignedVector<float> row(padded, 9.0f);
      AlignedVector<uint16_t> fp16(padded, uint16_t{9});
      f32(x.data() + begin, d, row.data());
      f16(x.data() + begin, d, fp16.data());
      for (size_t c = 0; c < padded; ++c) {
        const float value = c < length ? x[begin + c] : 0.0f;
        SHADOW_CHECK(std::memcmp(&row[c], &value, sizeof(value)) == 0, "%s d %d", name, d);
        const uint16_t expected = testing::SlowToFp16(static_cast<double>(value));
        SHADOW_CHECK(fp16[c] == expected, "%s d %d: %g gives %x, not %x", name, d, static_cast<double>(value), fp16[c],
                     expected);
      }
    }
  }
}

void TestAll() {
#define SHADOW_KERNEL(needed, name)                                                                                   \
  if (testing::HasArch(#name, needed)) {                                                                              \
    TestStoreRow(StoreRowF32##name, StoreRowF16##name, #name);                                                        \
    TestSparse({SoftmaxSelectedF32##name, AddValuesF32##name}, "SparseF32" #name, CacheType::kFloat32);               \
    TestSparse({SoftmaxSelectedF16##name, AddValuesF16##name}, "SparseF16" #name, CacheType::kFloat16);               \
    TestSparse({SoftmaxSelectedF16##name, AddValuesF16##name, true}, "Fp16Sums" #name, CacheType::kFloat16);          \
    TestPages(SumValuesF32##name, ScorePageF32##name, "PageF32" #name, CacheType::kFloat32);                          \
    TestPages(SumValuesF16##name, ScorePageF16##name, "PageF16" #name, CacheType::kFloat16);                          \
    TestDense(AttendDenseF32##name, "DenseF32" #name, CacheType::kFloat32);                                           \
    TestDense(AttendDenseF16##name, "DenseF16" #name, CacheType::kFloat16);                                           \
    for (CacheType type : kTypes) {                                                                                   \
      const bool f32 = type == CacheType::kFloat32;                                                                   \
      SHADOW_CHECK(                                                                                                   \
          GetSoftmaxSelectedKernel(needed, type) == (f32 ? SoftmaxSelectedF32##name : SoftmaxSelectedF16##name),      \
          #name);                                                                                                     \
      SHADOW_CHECK(GetAddValuesKernel(needed, type) == (f32 ? AddValuesF32##name : AddValuesF16##name), #name);       \
      SHADOW_CHECK(GetSumValuesKernel(needed, type) == (f32 ? SumValuesF32##name : SumValuesF16##name), #name);       \
      SHADOW_CHECK(GetScorePageKernel(needed, type) == (f32 ? ScorePageF32##name : ScorePageF16##name), #name);       \
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
