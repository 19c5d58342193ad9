// Products of small matrices by one thread. The host reads csrc/host/tile_host.h in place of this file; a
// SIMD-group has its own, mlp_simd.h.
#ifndef NERF_METAL_TILE_H
#define NERF_METAL_TILE_H

#include "tile_shape.h"

// c [rows, columns] = a b + bias, or c += a b: a[r, k] = a[r * a_row + k * a_step], b [depth, columns].
template <bool ADD, uint END, typename C, typename A, typename B, typename V, typename G>
inline void tile_product(C c, uint ldc, A a, uint a_row, uint a_step, B b, uint ldb, uint rows, uint columns,
                         uint depth, V bias, G gate)
{
    for (uint r = 0u; r < rows; ++r) {
        for (uint j = 0u; j < columns; ++j) {
            float sum = ADD ? c[r * ldc + j] : bias[j];
            for (uint k = 0u; k < depth; ++k) {
                sum += a[r * a_row + k * a_step] * b[k * ldb + j];
            }
            if (END == TILE_RELU) {
                sum = max(sum, 0.0f);
            } else if (END == TILE_GATE) {
                sum = gate[r * ldc + j] > 0.0f ? sum : 0.0f;
            }
            c[r * ldc + j] = sum;
        }
    }
}

#endif
