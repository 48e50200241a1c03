#include "attention/residual.h"

namespace shadow {

void Compensate(const RowResidual& residual, float scale, int k, int64_t pages, float* weights) {
  for (int i = 0; i < k; ++i) weights[i] += scale * residual.selected_residual[i];
  if (scale == 1.0f) return;
  for (int64_t page = 0; page < pages; ++page) residual.page_residual[page * residual.stride] *= scale;
}

}  // namespace shadow
