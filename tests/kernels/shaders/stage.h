// Functions that kernels hand their threadgroup memory to.
#ifndef NERF_METAL_STAGE_H
#define NERF_METAL_STAGE_H

#include "common.h"

// 16 rows and 8 columns of a matrix with n_columns, one element by each of 128 threads; rows past the end are 0.
inline void tile_stage(SHARED_POINTER(float) tile, device const float* x, uint first_row, uint n_rows,
                       uint first_column, uint n_columns, uint index)
{
    const uint row = first_row + index / 8u;
    tile[index] = row < n_rows ? x[row * n_columns + first_column + index % 8u] : 0.0f;
}

// d += a b^T of two 8x8 tiles that lie row after row.
inline void tile_multiply(thread simdgroup_float8x8& d, SHARED_POINTER(const float) a,
                          SHARED_POINTER(const float) b)
{
    simdgroup_float8x8 left;
    simdgroup_float8x8 right;
    simdgroup_load(left, a, 8u);
    simdgroup_load(right, b, 8u, ulong2(0u, 0u), true);
    simdgroup_multiply_accumulate(d, left, right, d);
}

#endif
