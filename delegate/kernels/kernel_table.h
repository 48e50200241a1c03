// The kernels of one ISA level, chosen once when a delegate is created.
#ifndef SHADOWATTN_DELEGATE_KERNELS_KERNEL_TABLE_H_
#define SHADOWATTN_DELEGATE_KERNELS_KERNEL_TABLE_H_

#include "kernels/arch.h"
#include "kernels/attend/attend.h"
#include "kernels/estimate/estimate.h"
#include "kernels/pages/pages.h"
#include "kernels/pv_int8/pv_int8.h"
#include "kernels/quantize/quantize.h"
#include "kernels/select/select.h"
#include "kernels/softmax/softmax.h"

namespace shadow {

struct TypedKernels {
  SoftmaxSelectedFn softmax_selected;
  AddValuesFn add_values;
  SumValuesFn sum_values;
  ScorePageFn score_page;
  AttendDenseFn attend_dense;
  StoreRowFn store_row;
  LargestValuesFn largest_values;
  PackValuesFn pack_values;
};

struct KernelTable {
  explicit KernelTable(ArchFlags arch)
      : quantize_key(GetQuantizeKeyKernel(arch)),
        quantize_query(GetQuantizeQueryKernel(arch)),
        estimate(GetEstimateKernel(arch)),
        estimate_positive(GetEstimatePositiveKernel(arch)),
        end_estimates(GetEndEstimates(arch)),
        select_int32(GetSelectInt32Kernel(arch)),
        select_int8(GetSelectInt8Kernel(arch)),
        softmax_int32(GetSoftmaxInt32Kernel(arch)),
        softmax_int8(GetSoftmaxInt8Kernel(arch)),
        select_by_threshold(GetSelectByThresholdKernel(arch)),
        quantize_weights(GetQuantizeWeightsKernel(arch)),
        add_products(GetAddProductsKernel(arch)),
        largest_bound(GetLargestBoundKernel(arch)),
        bits_below(GetBitsBelowKernel(arch)),
        sum_below(GetSumBelowKernel(arch)),
        list_bits(GetListBitsKernel(arch)),
        typed{ForType(arch, CacheType::kFloat32), ForType(arch, CacheType::kFloat16)} {}

  const TypedKernels& of(CacheType type) const { return typed[static_cast<int>(type)]; }

  QuantizeKeyFn quantize_key;
  QuantizeQueryFn quantize_query;
  EstimateFn estimate;
  EstimateFn estimate_positive;
  EndEstimatesFn end_estimates;
  SelectInt32Fn select_int32;
  SelectInt8Fn select_int8;
  SoftmaxInt32Fn softmax_int32;
  SoftmaxInt8Fn softmax_int8;
  SelectByThresholdFn select_by_threshold;
  QuantizeWeightsFn quantize_weights;
  AddProductsFn add_products;
  LargestBoundFn largest_bound;
  BitsBelowFn bits_below;
  SumBelowFn sum_below;
  ListBitsFn list_bits;

 private:
  static TypedKernels ForType(ArchFlags arch, CacheType type) {
    return {GetSoftmaxSelectedKernel(arch, type), GetAddValuesKernel(arch, type),   GetSumValuesKernel(arch, type),
            GetScorePageKernel(arch, type),       GetAttendDenseKernel(arch, type), GetStoreRowKernel(arch, type),
            GetLargestValuesKernel(arch, type),   GetPackValuesKernel(arch, type)};
  }
  TypedKernels typed[2];  // by CacheType
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNELS_KERNEL_TABLE_H_
