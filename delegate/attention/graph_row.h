// A row of scores as an estimate graph puts them out.
#ifndef SHADOWATTN_DELEGATE_ATTENTION_GRAPH_ROW_H_
#define SHADOWATTN_DELEGATE_ATTENTION_GRAPH_ROW_H_

#include <cstdint>

namespace shadow {

// Positions 0 .. n - 1, their best score, and the logits that a step is worth.
struct GraphRow {
  const int8_t* scores;
  int n;
  int8_t best;
  float step;
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_GRAPH_ROW_H_
