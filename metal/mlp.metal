// A fused small multilayer perceptron: hidden layers of ReLU, h_l = max(W_l h_{l-1} + b_l, 0), and a last one
// whose output is as it is, through ReLU or through a sigmoid. Reference: nerf_metal/reference/mlp.py.
//
// Forward: nothing but the output leaves the chip. Backward: activations are worked out again from x, and
// gradients of the weights are summed over a chunk of rows; the chunks are added up afterwards, always in the same
// order.
#include "common.h"
#include "mlp_simd_grad.h"
#include "params.h"

// Numbers of all layers together.
// length weights_of_all = pad_in * width + (n_hidden - 1) * width * width + width * pad_out
// length biases_of_all = n_hidden * width + pad_out

// The rows of part `i`, and nothing where the shape is not handled.
struct MlpSpan {
    uint first;
    uint count;
};

inline MlpSpan mlp_span(constant MlpParams& p, uint i)
{
    MlpSpan span;
    span.first = min(i * p.rows_per_thread, p.n_rows);
    span.count = mlp_is_handled(p) ? min(p.rows_per_thread, p.n_rows - span.first) : 0u;
    return span;
}

// Outputs of rows.
// Dispatched threads: ceil(n_rows / rows_per_thread).
// Not handled: widths that are not whole tiles of 16 up to 128; more than 4 hidden layers.
kernel void mlp_forward_f32(
    device const float* x [[buffer(0)]],  // [(n_rows - 1) * x_stride + n_in]
    device const float* weights_t [[buffer(1)]],  // [weights_of_all] layers of [in, out]
    device const float* biases [[buffer(2)]],  // [biases_of_all] zeros where there are none
    device float* y [[buffer(3)]],  // [(n_rows - 1) * y_stride + n_out]
    constant MlpParams& p [[buffer(4)]],
    uint i [[thread_position_in_grid]])
{
    const MlpSpan span = mlp_span(p, i);
    mlp_forward_rows(x, weights_t, biases, y, p, span.first, span.count);
}

// Gradients of rows, and of the weights from a chunk of rows.
// Dispatched threads: n_chunks of rows_per_thread rows each.
// Not handled: as above; chunks that do not cover the rows.
kernel void mlp_backward_f32(
    device const float* x [[buffer(0)]],  // [(n_rows - 1) * x_stride + n_in]
    device const float* weights [[buffer(1)]],  // [weights_of_all] layers of [out, in]
    device const float* weights_t [[buffer(2)]],  // [weights_of_all] layers of [in, out]
    device const float* biases [[buffer(3)]],  // [biases_of_all]
    device const float* y [[buffer(4)]],  // [out_activation ? (n_rows - 1) * y_stride + n_out : 0]
    device const float* grad_y [[buffer(5)]],  // [n_rows, n_out]
    device float* grad_x [[buffer(6)]],  // [has_grad_x ? n_rows * n_in : 0]
    device float* grad_weights [[buffer(7)]],  // [n_chunks, weights_of_all]
    device float* grad_biases [[buffer(8)]],  // [(has_bias ? n_chunks : 0), biases_of_all]
    constant MlpParams& p [[buffer(9)]],
    uint i [[thread_position_in_grid]])
{
    const MlpSpan span = mlp_span(p, i);
    if (i >= p.n_chunks || !mlp_is_handled(p)) {
        return;
    }
    const uint n_weights = mlp_weights_before(mlp_shape(p), p.n_hidden + 1u);
    const uint n_biases = p.has_bias != 0u ? p.n_hidden * p.width + p.pad_out : 0u;
    device float* sums = grad_weights + i * n_weights;
    device float* bias_sums = grad_biases + i * n_biases;
    for (uint j = 0u; j < n_weights; ++j) {
        sums[j] = 0.0f;
    }
    for (uint j = 0u; j < n_biases; ++j) {
        bias_sums[j] = 0.0f;
    }
    mlp_backward_rows(x, weights, weights_t, biases, y, grad_y, grad_x, sums, bias_sums, p, span.first, span.count);
}

// Gradients of all chunks together, summed in the chunks' order.
// Dispatched threads: ceil(n_columns / columns_per_thread).
// Not handled: nothing.
kernel void mlp_sum_f32(
    device const float* parts [[buffer(0)]],  // [n_chunks, n_columns]
    device float* sums [[buffer(1)]],  // [n_columns]
    constant MlpSumParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    const uint begin = min(i * p.columns_per_thread, p.n_columns);
    const uint n = min(p.columns_per_thread, p.n_columns - begin);
    for (uint j = 0u; j < n; ++j) {
        sums[begin + j] = 0.0f;
    }
    for (uint chunk = 0u; chunk < p.n_chunks; ++chunk) {
        device const float* part = parts + chunk * p.n_columns + begin;
        if (chunk + 1u < p.n_chunks) {
            fetch_soon(part + p.n_columns, n);
        }
        for (uint j = 0u; j < n; ++j) {
            sums[begin + j] += part[j];
        }
    }
}

// Outputs of rows, by products of matrices: 16 rows a SIMD-group, 8 where a layer is wider than 64.
// Dispatched threads: SIMD_WIDTH for each of these blocks of rows; threadgroups of 4 SIMD-groups.
// Not handled: as above; threadgroups of more SIMD-groups.
kernel void mlp_forward_simd_f32(
    device const float* x [[buffer(0)]],  // [(n_rows - 1) * x_stride + n_in]
    device const float* weights_t [[buffer(1)]],  // [weights_of_all] layers of [in, out]
    device const float* biases [[buffer(2)]],  // [biases_of_all] zeros where there are none
    device float* y [[buffer(3)]],  // [(n_rows - 1) * y_stride + n_out]
    constant MlpParams& p [[buffer(4)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, blocks, MLP_GROUPS * MLP_BLOCK * MATRIX_SIZE);
    if (simd >= MLP_GROUPS || !mlp_is_handled(p)) {
        return;
    }
    SHARED_POINTER(float) block = blocks;
    block += simd * MLP_BLOCK * MATRIX_SIZE;
    const uint group = gid / SIMD_WIDTH;
    if (mlp_is_narrow(mlp_shape(p))) {
        mlp_forward_group<2u>(block, x, weights_t, biases, y, p, group, lane);
    } else {
        mlp_forward_group<1u>(block, x, weights_t, biases, y, p, group, lane);
    }
}

// The first half of the gradients, row by row: of x, and into scratch each layer's input and the gradient of what its
// activation was given. Scratch lies in rows of 8x8 matrices, layer behind layer.
// Dispatched threads: SIMD_WIDTH for each block of rows, as above; threadgroups of 4 SIMD-groups.
// Not handled: as above.
kernel void mlp_backward_rows_simd_f32(
    device const float* x [[buffer(0)]],  // [(n_rows - 1) * x_stride + n_in]
    device const float* weights [[buffer(1)]],  // [weights_of_all] layers of [out, in]
    device const float* weights_t [[buffer(2)]],  // [weights_of_all] layers of [in, out]
    device const float* biases [[buffer(3)]],  // [biases_of_all]
    device const float* y [[buffer(4)]],  // [out_activation ? (n_rows - 1) * y_stride + n_out : 0]
    device const float* grad_y [[buffer(5)]],  // [n_rows, n_out]
    device float* grad_x [[buffer(6)]],  // [has_grad_x ? n_rows * n_in : 0]
    device float* inputs [[buffer(7)]],  // [(n_rows + 15), (pad_in + n_hidden * width)] whole blocks of rows
    device float* grads [[buffer(8)]],  // [(n_rows + 15), biases_of_all]
    constant MlpParams& p [[buffer(9)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, blocks, MLP_GROUPS * MLP_BLOCK * MATRIX_SIZE);
    if (simd >= MLP_GROUPS || !mlp_is_handled(p)) {
        return;
    }
    SHARED_POINTER(float) block = blocks;
    block += simd * MLP_BLOCK * MATRIX_SIZE;
    const uint group = gid / SIMD_WIDTH;
    if (mlp_is_narrow(mlp_shape(p))) {
        mlp_backward_rows_group<2u>(block, x, weights, weights_t, biases, y, grad_y, grad_x, inputs, grads, p,
                                    group, lane);
    } else {
        mlp_backward_rows_group<1u>(block, x, weights, weights_t, biases, y, grad_y, grad_x, inputs, grads, p,
                                    group, lane);
    }
}

// The second half, of weights and biases from chunks of rows_per_thread rows: a SIMD-group has up to 32x32 of one
// layer's gradients in registers and walks down the scratch of one chunk.
// Dispatched threads: SIMD_WIDTH for each chunk and each of these patches; threadgroups of 4 SIMD-groups.
// Not handled: as above; rows_per_thread that is no multiple of 8, and chunks that do not cover the rows.
kernel void mlp_backward_weights_simd_f32(
    device const float* inputs [[buffer(0)]],  // [(n_rows + 15), (pad_in + n_hidden * width)]
    device const float* grads [[buffer(1)]],  // [(n_rows + 15), biases_of_all]
    device float* grad_weights [[buffer(2)]],  // [n_chunks, weights_of_all]
    device float* grad_biases [[buffer(3)]],  // [(has_bias ? n_chunks : 0), biases_of_all]
    constant MlpParams& p [[buffer(4)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]])
{
    SHARED(float, matrices, MLP_GROUPS * MATRIX_SIZE);
    if (simd >= MLP_GROUPS || !mlp_is_handled(p)) {
        return;
    }
    SHARED_POINTER(float) matrix = matrices;
    matrix += simd * MATRIX_SIZE;
    mlp_backward_weights_group(matrix, inputs, grads, grad_weights, grad_biases, p, gid / SIMD_WIDTH, lane);
}
