// tdpbsud: 16 queries by 16 keys by up to 64 channels, summed exactly into int32s. A page stores its keys as tdpbsud
// needs them: a tile of keys holds 16 of the 64 keys, and a row of it four channels of each. One tile configuration
// serves all calls of a head dim, whatever the number of rows, because setting another one takes as long as 16 rows
// against a page. Few rows, and head dims that do not divide well, go to vpdpbusd: the integers are the same.

#include "kernels/estimate/kernels.h"
#include "kernels/layout.h"
#include "kernels/simd/amx.h"
#include "kernels/simd/x86.h"

namespace shadow {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileBytes = 64;  // of a row
constexpr int kTileKeys = kTileBytes / 4;
constexpr int kMaxRows = 6 * kTileRows;  // at a time, so that their copies fit on the stack
constexpr int kFewRows = 4;              // up to this many rows after whole tiles, vpdpbusd is faster than a tile
constexpr ptrdiff_t kKeyStride = kPageRows * 4;

// Tile registers. The processor renames them, so several registers of sums would be no faster than one.
constexpr int kSums = 0, kQueries = 1, kFirstKeys = 2;
constexpr int kMaxParts = 4;  // parts of the channels, a tile of keys each

// Channels in equal parts, so that one tile configuration fits all parts.
struct Parts {
  int count, bytes;
  bool suit;
};

Parts PartsOf(int d_padded) {
  int count = (d_padded + kTileBytes - 1) / kTileBytes;
  while (count <= kMaxParts && d_padded % (4 * count) != 0) ++count;
  const int bytes = d_padded / count;
  return {count, bytes, count <= kMaxParts && bytes >= kTileBytes / 2};
}

struct Configs {
  TileConfig of[kTileBytes / 4 + 1];  // by four channels of a part
};

constexpr Configs MakeConfigs() {
  Configs configs{};
  for (int fours = 1; fours <= kTileBytes / 4; ++fours) {
    TileConfig& config = configs.of[fours];
    config.palette = 1;
    for (int tile = 0; tile < kFirstKeys + kMaxParts; ++tile) {
      config.rows[tile] = static_cast<uint8_t>(tile >= kFirstKeys ? fours : kTileRows);
      config.row_bytes[tile] = static_cast<uint16_t>(tile == kQueries ? fours * 4 : kTileBytes);
    }
  }
  return configs;
}

constexpr Configs kConfigs = MakeConfigs();

// Queries as tiles read them: part p of row r lies at q + p * part_stride + r * stride.
struct Queries {
  const int8_t* q;
  ptrdiff_t stride, part_stride;
  int rows;
  alignas(kAlignment) int32_t start[kMaxRows][kTileKeys];  // -128 * sum of the row, for every key
};

template <int kParts, int kPart = 0>
void AddParts(const Queries& queries, int first) {
  if constexpr (kPart < kParts) {
    LoadTile<kQueries>(queries.q + kPart * queries.part_stride + first * queries.stride, queries.stride);
    MultiplyTiles<kSums, kQueries, kFirstKeys + kPart>();
    AddParts<kParts, kPart + 1>(queries, first);
  }
}

template <int kParts, int kPart = 0>
void LoadKeys(const uint8_t* k_u8, int part_bytes) {
  if constexpr (kPart < kParts) {
    LoadTile<kFirstKeys + kPart>(k_u8 + kPart * part_bytes * kPageRows, kKeyStride);
    LoadKeys<kParts, kPart + 1>(k_u8, part_bytes);
  }
}

// At least kTileRows rows. The last tile may overlap the one before it: it then stores the same scores again.
template <int kParts>
void EstimateRows(const Queries& queries, const uint8_t* k_u8, int part_bytes, int32_t* scores, ptrdiff_t stride) {
  for (int j = 0; j < kPageRows; j += kTileKeys) {
    LoadKeys<kParts>(k_u8 + j * 4, part_bytes);
    for (int r = 0; r < queries.rows; r += kTileRows) {
      const int first = r + kTileRows <= queries.rows ? r : queries.rows - kTileRows;
      LoadTile<kSums>(queries.start[first], kTileBytes);
      AddParts<kParts>(queries, first);
      StoreTile<kSums>(scores + first * stride + j, stride * 4);
    }
  }
}

// The first `bytes` bytes of p, at most 64, and zeros after them.
__m512i LoadBytes(const int8_t* p, int bytes) {
  return _mm512_maskz_loadu_epi8(~uint64_t{0} >> (kTileBytes - bytes), p);
}

int32_t SumOf(const int8_t* positive, const Parts& parts) {
  __m512i sums = _mm512_setzero_si512();
  for (int p = 0; p < parts.count; ++p) {
    sums = _mm512_dpbusd_epi32(sums, LoadBytes(positive + p * parts.bytes, parts.bytes), _mm512_set1_epi8(1));
  }
  return _mm512_reduce_add_epi32(sums);
}

// Copies a row to where its part 0 lies; part p lies kMaxRows rows after part p - 1.
void Copy(const int8_t* q, const Parts& parts, int8_t* copy) {
  for (int p = 0; p < parts.count; ++p, copy += kMaxRows * kTileBytes) {
    _mm512_store_si512(copy, LoadBytes(q + p * parts.bytes, parts.bytes));
  }
}

template <bool kPositive>
void EstimateTiles(const QueryRows& rows, const Parts& parts, const uint8_t* k_u8, int32_t* scores, ptrdiff_t stride) {
  const int d_padded = parts.count * parts.bytes;
  alignas(kAlignment) int8_t copies[kMaxParts * kMaxRows * kTileBytes];
  Queries queries;
  queries.rows = rows.rows;
  queries.q = rows.at == nullptr ? rows.q : copies;
  queries.stride = rows.at == nullptr ? d_padded : kTileBytes;
  queries.part_stride = rows.at == nullptr ? parts.bytes : kMaxRows * kTileBytes;
  for (int r = 0; r < rows.rows; ++r) {
    const ptrdiff_t row = rows.at == nullptr ? r : rows.at[r];
    const int8_t* q = rows.q + row * d_padded;
    const int32_t sum = kPositive ? SumOf(q, parts) : rows.sum[row];
    _mm512_store_si512(queries.start[r], _mm512_set1_epi32(-128 * sum));
    if (rows.at != nullptr) Copy(q, parts, copies + r * kTileBytes);
  }
  SetTiles(kConfigs.of[parts.bytes / 4]);
  constexpr decltype(&EstimateRows<1>) kByParts[] = {EstimateRows<1>, EstimateRows<2>, EstimateRows<3>,
                                                     EstimateRows<4>};
  kByParts[parts.count - 1](queries, k_u8, parts.bytes, scores, stride);
}

// How many of `rows` rows go through tiles in the next step.
int RowsByTiles(int rows, const Parts& parts) {
  if (!parts.suit || rows < kTileRows) return 0;
  if (rows >= kMaxRows) return kMaxRows;
  return rows % kTileRows <= kFewRows ? rows - rows % kTileRows : rows;
}

QueryRows After(QueryRows rows, int done, int d_padded) {
  rows.rows -= done;
  if (rows.at != nullptr) {
    rows.at += done;
  } else {
    rows.q += done * d_padded;
    if (rows.sum != nullptr) rows.sum += done;
  }
  return rows;
}

template <bool kPositive>
void Estimate(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores, ptrdiff_t stride) {
  constexpr EstimateFn kByVnni = kPositive ? EstimatePositiveAvx512Vnni : EstimateAvx512Vnni;
  if (rows.rows < kTileRows)
    return kByVnni(rows, k_u8, d_padded, scores, stride);  // decode: avoids the division of PartsOf
  const Parts parts = PartsOf(d_padded);
  QueryRows left = rows;
  while (left.rows > 0) {
    QueryRows some = left;
    some.rows = RowsByTiles(left.rows, parts);
    if (some.rows == 0) return kByVnni(left, k_u8, d_padded, scores, stride);
    EstimateTiles<kPositive>(some, parts, k_u8, scores, stride);
    left = After(left, some.rows, d_padded);
    scores += some.rows * stride;
  }
}

}  // namespace

void EstimateAvx512Amx(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores, ptrdiff_t stride) {
  Estimate<false>(rows, k_u8, d_padded, scores, stride);
}

void EstimatePositiveAvx512Amx(const QueryRows& rows, const uint8_t* k_u8, int d_padded, int32_t* scores,
                               ptrdiff_t stride) {
  Estimate<true>(rows, k_u8, d_padded, scores, stride);
}

void EndEstimatesAvx512Amx() { ReleaseTiles(); }

}  // namespace shadow
