// Rows of a table, a few numbers each, read and added to at indices: what the hash grid does most. The host reads
// csrc/host/rows_host.h in place of these loops.
#ifndef NERF_METAL_ROWS_H
#define NERF_METAL_ROWS_H

#include "common.h"

#if defined(__METAL_VERSION__)

// N rows will be read soon, whose indices lie `step` apart.
template <uint N, uint F, typename T>
inline void rows_fetch(device const T*, thread const uint*, uint)
{
}

// out[f] = the sum over N rows of weight * table[index], whose weights and indices lie `step` apart.
template <uint N, uint F, typename T>
inline void rows_sum(device float* out, device const T* table, thread const uint* index,
                     thread const float* weight, uint step)
{
    float sum[F];
    for (uint f = 0u; f < F; ++f) {
        sum[f] = 0.0f;
    }
    for (uint i = 0u; i < N; ++i) {
        for (uint f = 0u; f < F; ++f) {
            sum[f] += weight[i * step] * float(table[index[i * step] * F + f]);
        }
    }
    for (uint f = 0u; f < F; ++f) {
        out[f] = sum[f];
    }
}

// table[index] += weight * value at N rows.
template <uint N, uint F>
inline void rows_add(device float* table, device const float* value, thread const uint* index,
                     thread const float* weight, uint step)
{
    for (uint i = 0u; i < N; ++i) {
        for (uint f = 0u; f < F; ++f) {
            table[index[i * step] * F + f] += weight[i * step] * value[f];
        }
    }
}

#endif

#endif
