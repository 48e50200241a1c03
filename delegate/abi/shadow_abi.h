// The versioned C ABI beside the two TFLite plugin symbols. Used by the Python runtime through ctypes.
//
// `delegate` is what tflite_plugin_create_delegate returned; another pointer is refused, also one that was destroyed.
// Functions that return int32_t or int64_t return -1 when they fail, those that return a pointer return NULL. Then
// shadow_last_error() says why. A call that is refused changes nothing.
#ifndef SHADOWATTN_DELEGATE_ABI_SHADOW_ABI_H_
#define SHADOWATTN_DELEGATE_ABI_SHADOW_ABI_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHADOW_ABI_VERSION 4

typedef struct ShadowStats {
  uint32_t struct_size;     // sizeof(ShadowStats), set by the caller
  uint32_t reserved;        // 0
  int64_t rows;             // (query row, head) pairs attended
  int64_t causal_rows;      // sum over those of the causal length n
  int64_t value_rows_read;  // sum over those of the positions selected (n where all are)
  int64_t k_saturated;      // elements of K that had to be clamped to +-127
  int64_t cache_bytes;      // bytes held by this cache now
  int64_t length;           // committed length
  double seconds_append;    // wall time per stage, summed over calls
  double seconds_estimate;
  double seconds_select;
  double seconds_attend;
  int64_t rows_not_compensated;  // rows whose scores were too coarse or clipped for compensation
  int64_t pages;                 // pages that rows of mode shadow could see, summed, where the op makes the scores
  int64_t pages_scored;          // those of them that were scored (option max_skipped_mass)
} ShadowStats;

// The rows of one layer that shadow_append and shadow_attend work on.
typedef struct ShadowChunk {
  uint32_t struct_size;    // sizeof(ShadowChunk), set by the caller
  int32_t cache;           // handle
  int32_t layer;           // 0 .. num_layers - 1
  int32_t time;            // T
  int64_t position;        // of row 0
  int64_t n_valid;         // rows that are not padding
  const uint8_t* options;  // the 40 option bytes of any layer's op (docs/op_spec.md); their layer is not read
  const float* q;          // [T][H][d]
  const float* k;          // [T][N_kv][d]; shadow_append only
  const float* v;          // [T][N_kv][d]; shadow_append only
} ShadowChunk;

// What estimate graphs read. clamped and outside are set by the call.
typedef struct ShadowEstimateInputs {
  uint32_t struct_size;  // sizeof(ShadowEstimateInputs), set by the caller
  int32_t scales;        // 0 rank-invariant; of the grid: 1 nearest by squared distance, 2 by ratio, 3 the middle one
  int64_t seq_len;       // S, at least position + n_valid
  int8_t* q_i8;          // [H][T][d]
  int8_t* k_i8;          // [N_kv][S][d]
  int32_t* buckets;      // [H]: the bucket each head took
  int64_t clamped;       // elements of q_i8 and k_i8 that had to be clamped (grid only)
  int64_t outside;       // query heads and KV heads whose scale lies outside every bucket (grid only)
} ShadowEstimateInputs;

// Query heads to attend, and what an estimate graph said of them.
typedef struct ShadowHeads {
  uint32_t struct_size;   // sizeof(ShadowHeads), set by the caller
  int32_t first;          // query heads [first, first + count): within a KV head, or of whole KV heads
  int32_t count;          // all of them in modes that read no scores
  int32_t bucket;         // as shadow_append gave it
  int32_t may_share;      // 0: on the calling thread only
  int32_t reserved;       // 0
  int64_t scores_length;  // S
  const int8_t* scores;   // [count][T][S], or null: estimated here
  float* out;             // [T][H*d]; the other heads are not touched, padding rows become zero
} ShadowHeads;

// SHADOW_ABI_VERSION of the library.
int32_t shadow_abi_version(void);
// One line: "shadowattn VERSION, COMPILER, isa: LEVEL LEVEL ...". What follows "isa: " are the ISA levels compiled in,
// the slowest first, separated by single spaces: values of the delegate option `isa`.
const char* shadow_build_info(void);
// The ISA level that "auto" takes on this machine, for example "avx512vnni".
const char* shadow_best_isa(void);
// The ISA level that this delegate runs with, or NULL.
const char* shadow_isa(void* delegate);
// Why the calling thread's latest failing call failed; "" if none has. Lives until its next failing call.
const char* shadow_last_error(void);

// The settings of a cache that is told nothing, as shadow_cache_create takes them, with every key. A delegate that was
// created with other settings gives its caches those.
const char* shadow_cache_defaults(void);
// options: "key=value;key=value" with the keys marked *cache* in docs/op_spec.md, or "". Returns a handle >= 1, or -1.
int32_t shadow_cache_create(void* delegate, const char* options);
// Frees a cache, but for cache 0, which belongs to the delegate.
int32_t shadow_cache_destroy(void* delegate, int32_t cache);
// Changes settings of a cache; keys as above, without cache_type and max_length. Its rows stay.
int32_t shadow_cache_configure(void* delegate, int32_t cache, const char* options);
// Factors of the heads' thresholds [num_layers * num_heads] instead of the plan's, at least 0 (0: a head selects all
// positions; above 1e30: it is ablated, its output is zero); count 0: the plan's again.
int32_t shadow_cache_set_factors(void* delegate, int32_t cache, const float* factors, int64_t count);
// What the cache observes from now on, as the sum of: 1 histogram, 2 errors, 4 heads, 8 ranges; 0: nothing. Starts with
// empty tables. docs/op_spec.md (observers) says what they hold.
int32_t shadow_observe(void* delegate, int32_t cache, int32_t what);
// Copies the table `name` ("histogram", ...) to out [count]; zeros as long as no row was attended. count must be the
// table's size.
int32_t shadow_observed(void* delegate, int32_t cache, const char* name, double* out, int64_t count);
// Empties the tables; what is observed stays.
int32_t shadow_observed_reset(void* delegate, int32_t cache);
// Committed length, or -1.
int64_t shadow_cache_length(void* delegate, int32_t cache);
// Drops every row from `length` on, and whatever was not committed. length: at most what is committed.
int32_t shadow_cache_rewind(void* delegate, int32_t cache, int64_t length);
// The op's steps without a graph around them, for a pipeline that runs estimate graphs in between: nothing is copied on
// the way to and from them. Appends the rows of k and v and writes `inputs`; null for modes that read no scores.
int32_t shadow_append(void* delegate, const ShadowChunk* chunk, ShadowEstimateInputs* inputs);
// Selects and attends for some heads. q: as shadow_append was given it.
int32_t shadow_attend(void* delegate, const ShadowChunk* chunk, const ShadowHeads* heads);
// Comma-separated signatures that the interpreters made from now on will run; "" for all (option `signatures`).
int32_t shadow_set_signatures(void* delegate, const char* list);
// 1 to 64. Waits for a running call.
int32_t shadow_set_num_threads(void* delegate, int32_t num_threads);
// What the cache has counted since it was created or reset. out->struct_size is set by the caller.
int32_t shadow_stats(void* delegate, int32_t cache, ShadowStats* out);
int32_t shadow_stats_reset(void* delegate, int32_t cache);
// Number of caches alive in this delegate, handle 0 not counted.
int32_t shadow_num_caches(void* delegate);

#ifdef __cplusplus
}
#endif

#endif  // SHADOWATTN_DELEGATE_ABI_SHADOW_ABI_H_
