// Residual compensation: what a row does not select stands in as the mean value of its page (docs/op_spec.md, step 5).
#ifndef SHADOWATTN_DELEGATE_ATTENTION_RESIDUAL_H_
#define SHADOWATTN_DELEGATE_ATTENTION_RESIDUAL_H_

#include <cstdint>

namespace shadow {

// The weight of a row's positions that are not selected; zeros where the row is not compensated.
struct RowResidual {
  float* selected_residual;  // [k]: what each selected position takes of it
  float* page_residual;      // [pages], each `stride` from the next: what each position of a page takes of it
  int64_t stride;
};

// Scales the residual by `scale` and adds the part of the selected positions to their weights [k].
inline void Compensate(const RowResidual& residual, float scale, int k, int64_t pages, float* weights) {
  for (int i = 0; i < k; ++i) weights[i] += scale * residual.selected_residual[i];
  if (scale == 1.0f) return;
  for (int64_t page = 0; page < pages; ++page) residual.page_residual[page * residual.stride] *= scale;
}

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_ATTENTION_RESIDUAL_H_
