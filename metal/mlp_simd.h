// A small multilayer perceptron by SIMD-groups, as products of 8x8 matrices: what mlp.h does for one thread.
//
// Activations of a block of rows lie in threadgroup memory matrix by matrix, the 64 numbers of one together, so
// that a load reads adjacent addresses. Outside the products lane l alone reads and writes the elements l and l +
// 32 of every matrix, however many columns lie there: only the products need barriers, and those of the SIMD-group
// alone.
#ifndef NERF_METAL_MLP_SIMD_H
#define NERF_METAL_MLP_SIMD_H

#include "mlp.h"

constexpr constant uint MATRIX_SIDE = 8u;
constexpr constant uint MATRIX_SIZE = 64u;
// SIMD-groups of a threadgroup, each with memory of its own.
constexpr constant uint MLP_GROUPS = 4u;
// Matrices of a block, and of sums in registers: two rows of eight where no layer is wider than 64, else one
// of 16. So a threadgroup takes 16 KB, half of what it may, and two can be in a core's memory.
constexpr constant uint MLP_BLOCK = 16u;
constexpr constant uint MLP_NARROW = 64u;

// Whether a block is 16 rows, not 8.
inline bool mlp_is_narrow(MlpShape s)
{
    return max(max(s.in, s.width), s.out) <= MLP_NARROW;
}

// One of a lane's elements: q counts quarters, four rows each, down a block `columns` wide; c matrices across.
struct MlpElement {
    uint at;
    uint row;
    uint column;
};

inline MlpElement mlp_element(uint q, uint c, uint columns, uint lane)
{
    MlpElement e;
    e.at = ((q / 2u * (columns / MATRIX_SIDE) + c) * 2u + q % 2u) * SIMD_WIDTH + lane;
    e.row = q * 4u + lane / MATRIX_SIDE;
    e.column = c * MATRIX_SIDE + lane % MATRIX_SIDE;
    return e;
}

// Columns of rows, with zeros to the right of them and below the last row.
template <uint R>
inline void mlp_group_read(SHARED_POINTER(float) block, uint pad, device const float* from, uint columns,
                           uint stride, uint n, uint lane)
{
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < pad / MATRIX_SIDE; ++c) {
            const MlpElement e = mlp_element(q, c, pad, lane);
            block[e.at] = e.row < n && e.column < columns ? from[e.row * stride + e.column] : 0.0f;
        }
    }
}

// block [8 R, out] = block [8 R, in] b: every sum stays in registers until all of the block has been read.
template <uint R>
inline void mlp_group_product(SHARED_POINTER(float) block, device const float* b, uint in, uint out)
{
    simdgroup_float8x8 sum[MLP_BLOCK];
    UNROLL
    for (uint i = 0u; i < MLP_BLOCK; ++i) {
        sum[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = 0u; k < in / MATRIX_SIDE; ++k) {
        simdgroup_float8x8 left[R];
        UNROLL
        for (uint r = 0u; r < R; ++r) {
            simdgroup_load(left[r], block + (r * (in / MATRIX_SIDE) + k) * MATRIX_SIZE, MATRIX_SIDE);
        }
        UNROLL
        for (uint c = 0u; c < MLP_BLOCK / R; ++c) {
            if (c * MATRIX_SIDE < out) {
                simdgroup_float8x8 right;
                simdgroup_load(right, b + (k * out + c) * MATRIX_SIDE, out);
                UNROLL
                for (uint r = 0u; r < R; ++r) {
                    simdgroup_multiply_accumulate(sum[c * R + r], left[r], right, sum[c * R + r]);
                }
            }
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    UNROLL
    for (uint c = 0u; c < MLP_BLOCK / R; ++c) {
        if (c * MATRIX_SIDE < out) {
            UNROLL
            for (uint r = 0u; r < R; ++r) {
                simdgroup_store(sum[c * R + r], block + (r * (out / MATRIX_SIDE) + c) * MATRIX_SIZE, MATRIX_SIDE);
            }
        }
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
}

// Hidden layer l of a block.
template <uint R>
inline void mlp_group_hidden(SHARED_POINTER(float) block, device const float* weights_t,
                             device const float* biases, MlpShape s, uint l, uint lane)
{
    mlp_group_product<R>(block, weights_t + mlp_weights_before(s, l), l == 0u ? s.in : s.width, s.width);
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < s.width / MATRIX_SIDE; ++c) {
            const MlpElement e = mlp_element(q, c, s.width, lane);
            block[e.at] = max(block[e.at] + biases[l * s.width + e.column], 0.0f);
        }
    }
}

template <uint R>
inline void mlp_forward_group(SHARED_POINTER(float) block, device const float* x, device const float* weights_t,
                              device const float* biases, device float* y, constant MlpParams& p, uint group,
                              uint lane)
{
    const MlpShape s = mlp_shape(p);
    const uint first = group * MATRIX_SIDE * R;
    if (first >= p.n_rows) {
        return;
    }
    const uint n = min(MATRIX_SIDE * R, p.n_rows - first);
    mlp_group_read<R>(block, s.in, x + first * p.x_stride, p.n_in, p.x_stride, n, lane);
    for (uint l = 0u; l < s.hidden; ++l) {
        mlp_group_hidden<R>(block, weights_t, biases, s, l, lane);
    }
    mlp_group_product<R>(block, weights_t + mlp_weights_before(s, s.hidden), s.width, s.out);
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < s.out / MATRIX_SIDE; ++c) {
            const MlpElement e = mlp_element(q, c, s.out, lane);
            if (e.row < n && e.column < p.n_out) {
                float value = block[e.at] + biases[s.hidden * s.width + e.column];
                if (p.out_activation == 1u) {
                    value = max(value, 0.0f);
                } else if (p.out_activation == 2u) {
                    value = 1.0f / (1.0f + exp(-value));
                }
                y[(first + e.row) * p.y_stride + e.column] = value;
            }
        }
    }
}

#endif
