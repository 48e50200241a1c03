// Working memory of one thread, kept from one chunk to the next.
#ifndef SHADOWATTN_DELEGATE_SCRATCH_H_
#define SHADOWATTN_DELEGATE_SCRATCH_H_

#include <cstdint>

#include "aligned_buffer.h"

namespace shadow {

struct Scratch {
  AlignedBuffer<float> q;           // padded query rows of a tile
  AlignedBuffer<int8_t> q_i8;       // the same rows, quantised
  AlignedBuffer<int32_t> q_sum;     // their sums
  AlignedBuffer<int32_t> scores;    // [rows][stride]
  AlignedBuffer<int32_t> select;    // of the select kernels
  AlignedBuffer<int32_t> selected;  // [rows][stride]
  AlignedBuffer<float> attend;      // of the attend kernels
  AlignedBuffer<int32_t> causal;    // [rows]: causal lengths, or k
  AlignedBuffer<float*> out;        // [rows]
  AlignedBuffer<int8_t> key;        // one INT8 key
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_SCRATCH_H_
