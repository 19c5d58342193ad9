// The gradients of the MLP by SIMD-groups, in two steps with scratch between them: rows, then weights. Scratch
// lies in rows of 8x8 matrices, all layers of eight rows together.
#ifndef NERF_METAL_MLP_SIMD_GRAD_H
#define NERF_METAL_MLP_SIMD_GRAD_H

#include "mlp_simd.h"

// Sides of the part of a layer's weight gradients that a SIMD-group has in registers, in matrices.
constexpr constant uint MLP_PATCH = 4u;

// Columns [first, first + columns) of a scratch whose rows are `pad` wide.
template <uint R>
inline void mlp_group_save(device float* to, uint pad, uint first, SHARED_POINTER(const float) block, uint columns,
                           uint lane)
{
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < columns / MATRIX_SIDE; ++c) {
            to[mlp_element(q, first / MATRIX_SIDE + c, pad, lane).at] = block[mlp_element(q, c, columns, lane).at];
        }
    }
}

// A block's gradient of the output becomes dL/d(what the output's activation was given).
template <uint R>
inline void mlp_group_slope(SHARED_POINTER(float) block, device const float* y, constant MlpParams& p, uint n,
                            uint lane)
{
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < p.pad_out / MATRIX_SIDE; ++c) {
            const MlpElement e = mlp_element(q, c, p.pad_out, lane);
            if (e.row < n && e.column < p.n_out) {
                const float value = y[e.row * p.y_stride + e.column];
                const float grad = block[e.at];
                if (p.out_activation == 2u) {
                    block[e.at] = grad * (value * (1.0f - value));
                } else {
                    block[e.at] = value > 0.0f ? grad : 0.0f;
                }
            }
        }
    }
}

// Of a block of rows: the gradient of x, and in scratch what the gradients of the weights are made of, each
// layer's input and the gradient of what its activation was given.
template <uint R>
inline void mlp_backward_rows_group(SHARED_POINTER(float) block, device const float* x,
                                    device const float* weights, device const float* weights_t,
                                    device const float* biases, device const float* y, device const float* grad_y,
                                    device float* grad_x, device float* inputs, device float* grads,
                                    constant MlpParams& p, uint group, uint lane)
{
    const MlpShape s = mlp_shape(p);
    const uint first = group * MATRIX_SIDE * R;
    if (first >= p.n_rows) {
        return;
    }
    const uint n = min(MATRIX_SIDE * R, p.n_rows - first);
    const uint inputs_pad = s.in + s.hidden * s.width;
    const uint grads_pad = s.hidden * s.width + s.out;
    device float* input = inputs + first * inputs_pad;
    device float* grad = grads + first * grads_pad;
    mlp_group_read<R>(block, s.in, x + first * p.x_stride, p.n_in, p.x_stride, n, lane);
    mlp_group_save<R>(input, inputs_pad, 0u, block, s.in, lane);
    for (uint l = 0u; l < s.hidden; ++l) {
        mlp_group_hidden<R>(block, weights_t, biases, s, l, lane);
        mlp_group_save<R>(input, inputs_pad, s.in + l * s.width, block, s.width, lane);
    }
    mlp_group_read<R>(block, s.out, grad_y + first * p.n_out, p.n_out, p.n_out, n, lane);
    if (p.out_activation != 0u) {
        mlp_group_slope<R>(block, y + first * p.y_stride, p, n, lane);
    }
    mlp_group_save<R>(grad, grads_pad, s.hidden * s.width, block, s.out, lane);
    for (uint l = s.hidden; l > 0u; --l) {
        mlp_group_product<R>(block, weights + mlp_weights_before(s, l), l == s.hidden ? s.out : s.width, s.width);
        const uint below = s.in + (l - 1u) * s.width;
        for (uint q = 0u; q < 2u * R; ++q) {
            for (uint c = 0u; c < s.width / MATRIX_SIDE; ++c) {
                // what this lane has saved itself
                const float gate = input[mlp_element(q, below / MATRIX_SIDE + c, inputs_pad, lane).at];
                const uint at = mlp_element(q, c, s.width, lane).at;
                block[at] = gate > 0.0f ? float(block[at]) : 0.0f;
            }
        }
        mlp_group_save<R>(grad, grads_pad, (l - 1u) * s.width, block, s.width, lane);
    }
    if (p.has_grad_x == 0u) {
        return;
    }
    mlp_group_product<R>(block, weights, s.width, s.in);
    for (uint q = 0u; q < 2u * R; ++q) {
        for (uint c = 0u; c < s.in / MATRIX_SIDE; ++c) {
            const MlpElement e = mlp_element(q, c, s.in, lane);
            if (e.row < n && e.column < p.n_in) {
                grad_x[(first + e.row) * p.n_in + e.column] = block[e.at];
            }
        }
    }
}

// Patches across and down a layer's weight gradients.
inline uint mlp_patches(uint columns)
{
    return (columns / MATRIX_SIDE + MLP_PATCH - 1u) / MLP_PATCH;
}

// Of one patch of one layer and one chunk of rows: grads^T inputs; the patches at the left edge also add up the
// grads.
inline void mlp_backward_weights_group(SHARED_POINTER(float) matrix, device const float* inputs,
                                       device const float* grads, device float* grad_weights,
                                       device float* grad_biases, constant MlpParams& p, uint group, uint lane)
{
    const MlpShape s = mlp_shape(p);
    const uint across_first = mlp_patches(s.in);
    const uint across = mlp_patches(s.width);
    const uint down_last = mlp_patches(s.out);
    const uint n_patches = across * (across_first + (s.hidden - 1u) * across + down_last);
    const uint chunk = group / n_patches;
    if (chunk >= p.n_chunks) {
        return;
    }
    // which layer's patch
    uint patch = group % n_patches;
    uint l = 0u;
    for (uint here = across * across_first; l < s.hidden && patch >= here; here = across * across) {
        patch -= here;
        ++l;
    }
    const uint in = l == 0u ? s.in : s.width;
    const uint out = l == s.hidden ? s.out : s.width;
    const uint first_in = patch % mlp_patches(in) * MLP_PATCH;
    const uint first_out = patch / mlp_patches(in) * MLP_PATCH;
    const uint n_in = min(MLP_PATCH, in / MATRIX_SIDE - first_in);
    const uint n_out = min(MLP_PATCH, out / MATRIX_SIDE - first_out);
    const bool sums_biases = p.has_bias != 0u && first_in == 0u;

    const uint inputs_pad = s.in + s.hidden * s.width;
    const uint grads_pad = s.hidden * s.width + s.out;
    const uint rows = p.n_rows / MATRIX_SIDE + (p.n_rows % MATRIX_SIDE != 0u ? 1u : 0u);  // of matrices
    const uint first = min(chunk * (p.rows_per_thread / MATRIX_SIDE), rows);
    const uint n = min(p.rows_per_thread / MATRIX_SIDE, rows - first);
    device const float* input =
        inputs + first * MATRIX_SIDE * inputs_pad +
        ((l == 0u ? 0u : s.in + (l - 1u) * s.width) + first_in * MATRIX_SIDE) * MATRIX_SIDE;
    device const float* grad =
        grads + first * MATRIX_SIDE * grads_pad + (l * s.width + first_out * MATRIX_SIDE) * MATRIX_SIDE;

    simdgroup_float8x8 sum[MLP_PATCH * MLP_PATCH];
    simdgroup_float8x8 bias[MLP_PATCH];
    simdgroup_float8x8 ones = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
    UNROLL
    for (uint i = 0u; i < MLP_PATCH * MLP_PATCH; ++i) {
        sum[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    UNROLL
    for (uint i = 0u; i < MLP_PATCH; ++i) {
        bias[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    for (uint row = 0u; row < n; ++row) {
        simdgroup_float8x8 right[MLP_PATCH];
        UNROLL
        for (uint j = 0u; j < MLP_PATCH; ++j) {
            if (j < n_in) {
                simdgroup_load(right[j], input + j * MATRIX_SIZE, MATRIX_SIDE);
            }
        }
        UNROLL
        for (uint i = 0u; i < MLP_PATCH; ++i) {
            if (i < n_out) {
                simdgroup_float8x8 left;
                simdgroup_load(left, grad + i * MATRIX_SIZE, MATRIX_SIDE, ulong2(0u, 0u), true);
                UNROLL
                for (uint j = 0u; j < MLP_PATCH; ++j) {
                    if (j < n_in) {
                        simdgroup_multiply_accumulate(sum[i * MLP_PATCH + j], left, right[j],
                                                      sum[i * MLP_PATCH + j]);
                    }
                }
                if (sums_biases) {
                    simdgroup_multiply_accumulate(bias[i], left, ones, bias[i]);
                }
            }
        }
        input += MATRIX_SIDE * inputs_pad;
        grad += MATRIX_SIDE * grads_pad;
    }
    device float* to = grad_weights + chunk * mlp_weights_before(s, s.hidden + 1u) + mlp_weights_before(s, l) +
                       (first_out * in + first_in) * MATRIX_SIDE;
    device float* to_biases =
        grad_biases + chunk * (s.hidden * s.width + s.out) + l * s.width + first_out * MATRIX_SIDE;
    UNROLL
    for (uint i = 0u; i < MLP_PATCH; ++i) {
        if (i < n_out) {
            UNROLL
            for (uint j = 0u; j < MLP_PATCH; ++j) {
                if (j < n_in) {
                    simdgroup_store(sum[i * MLP_PATCH + j], to + (i * in + j) * MATRIX_SIDE, in);
                }
            }
            if (sums_biases) {  // every column of it
                simdgroup_store(bias[i], matrix, MATRIX_SIDE);
                simdgroup_barrier(mem_flags::mem_threadgroup);
                if (lane < MATRIX_SIDE) {
                    to_biases[i * MATRIX_SIDE + lane] = matrix[lane * MATRIX_SIDE];
                }
                simdgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
    }
}

#endif
