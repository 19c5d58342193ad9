// Rows of a table, a few numbers each, read and added to at indices: what the hash grid does most. The host reads
// csrc/host/rows_host.h in place of this file: a row is a vector there, and points are located ahead of their
// reading.
//
// Tile is the caller's: `index` and `weight` of N rows for each of TUNING_POINTS points, a row's all together, so
// that what belongs to one point lies TUNING_POINTS apart. So is locate_rows(tile, positions, level, left), which
// fills it for whole tiles, or for the `left` points that there are, and returns how many.
#ifndef NERF_METAL_ROWS_H
#define NERF_METAL_ROWS_H

#include "common.h"

// out[f] = the sum over N rows of weight * table[index], for each of `count` points, whose results lie `stride`
// apart.
template <typename Tile, uint N, uint F, typename T, typename Level>
inline void rows_sum(device float* out, uint stride, device const T* table, device const float* positions,
                     Level level, uint count)
{
    Tile tile;
    uint n = 0u;
    for (uint done = 0u; done < count; done += n) {
        n = locate_rows(tile, positions + 3u * done, level, count - done);
        for (uint k = 0u; k < n; ++k) {
            float sum[F];
            for (uint f = 0u; f < F; ++f) {
                sum[f] = 0.0f;
            }
            for (uint i = k; i < N * TUNING_POINTS; i += TUNING_POINTS) {
                for (uint f = 0u; f < F; ++f) {
                    sum[f] += tile.weight[i] * float(table[tile.index[i] * F + f]);
                }
            }
            for (uint f = 0u; f < F; ++f) {
                out[(done + k) * stride + f] = sum[f];
            }
        }
    }
}

// table[index] += weight * value at N rows, for each of `count` points in their order, whose values lie `stride`
// apart.
template <typename Tile, uint N, uint F, typename Level>
inline void rows_add(device float* table, device const float* values, uint stride, device const float* positions,
                     Level level, uint count)
{
    Tile tile;
    uint n = 0u;
    for (uint done = 0u; done < count; done += n) {
        n = locate_rows(tile, positions + 3u * done, level, count - done);
        for (uint k = 0u; k < n; ++k) {
            for (uint i = k; i < N * TUNING_POINTS; i += TUNING_POINTS) {
                for (uint f = 0u; f < F; ++f) {
                    table[tile.index[i] * F + f] += tile.weight[i] * values[(done + k) * stride + f];
                }
            }
        }
    }
}

#endif
