// The kernels of one ISA level, chosen once when a delegate is created.
#ifndef SHADOWATTN_DELEGATE_KERNEL_TABLE_H_
#define SHADOWATTN_DELEGATE_KERNEL_TABLE_H_

#include "kernels/arch.h"
#include "kernels/attend/attend.h"
#include "kernels/estimate/estimate.h"
#include "kernels/quantize/quantize.h"
#include "kernels/select/select.h"

namespace shadow {

struct TypedKernels {
  AttendSparseFn attend_sparse;
  AttendDenseFn attend_dense;
  StoreRowFn store_row;
};

struct KernelTable {
  explicit KernelTable(ArchFlags arch)
      : quantize_key(GetQuantizeKeyKernel(arch)),
        quantize_query(GetQuantizeQueryKernel(arch)),
        estimate(GetEstimateKernel(arch)),
        select_int32(GetSelectInt32Kernel(arch)),
        select_int8(GetSelectInt8Kernel(arch)),
        typed{ForType(arch, CacheType::kFloat32), ForType(arch, CacheType::kFloat16)} {}

  const TypedKernels& of(CacheType type) const { return typed[static_cast<int>(type)]; }

  QuantizeKeyFn quantize_key;
  QuantizeQueryFn quantize_query;
  EstimateFn estimate;
  SelectInt32Fn select_int32;
  SelectInt8Fn select_int8;

 private:
  static TypedKernels ForType(ArchFlags arch, CacheType type) {
    return {GetAttendSparseKernel(arch, type), GetAttendDenseKernel(arch, type), GetStoreRowKernel(arch, type)};
  }
  TypedKernels typed[2];  // by CacheType
};

}  // namespace shadow

#endif  // SHADOWATTN_DELEGATE_KERNEL_TABLE_H_
