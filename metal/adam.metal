// Adam (Kingma and Ba 2015, algorithm 1) in place: one pass over a table, its gradient and both moments.
// Reference and equations: nerf_metal/reference/adam.py.
#include "common.h"
#include "params.h"

// Elements that are skipped together where none has a gradient, and how many such blocks are looked at before the
// first is worked on.
constexpr constant uint ADAM_BLOCK = TUNING_BLOCK;
constexpr constant uint ADAM_BLOCKS = TUNING_BLOCKS;

// Not 0 for every number but 0 and -0, NaN and denormals included, which a GPU's comparison may take for 0.
inline uint adam_bits(float grad)
{
    return as_type<uint>(grad) << 1;
}

// The bits of all gradients of a block: 0 where there is nothing to do.
inline uint adam_any(device const float* grad, uint n)
{
    uint bits = 0u;
    for (uint k = 0u; k < n; ++k) {
        bits |= adam_bits(grad[k]);
    }
    return bits;
}

// A block of n elements; those without a gradient stay as they are unless every one is to be updated.
inline void adam_block(device float* param, device float* grad, device float* exp_avg, device float* exp_avg_sq,
                       device half* half_copy, constant AdamParams& p, uint n)
{
    const uint all = p.sparse != 0u ? 0u : 1u;
    for (uint k = 0u; k < n; ++k) {
        const float g = grad[k];
        const float m = p.beta1 * exp_avg[k] + p.weight1 * g;
        const float v = p.beta2 * exp_avg_sq[k] + p.weight2 * (g * g);
        const float x = param[k] - p.rate * m / (sqrt(v) * p.scale + p.eps);
        const bool touched = (adam_bits(g) | all) != 0u;
        exp_avg[k] = touched ? m : exp_avg[k];
        exp_avg_sq[k] = touched ? v : exp_avg_sq[k];
        param[k] = touched ? x : param[k];
    }
    if (p.has_half != 0u) {
        for (uint k = 0u; k < n; ++k) {
            half_copy[k] = (adam_bits(grad[k]) | all) != 0u ? half(param[k]) : half_copy[k];
        }
    }
    if (p.clear_grad != 0u) {
        for (uint k = 0u; k < n; ++k) {
            grad[k] = 0.0f;
        }
    }
}

// One step: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
// param -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps).
// Dispatched threads: ceil(n_elements / elements_per_thread).
// Not handled: weight decay, AMSGrad.
kernel void adam_step_f32(
    device float* param [[buffer(0)]],       // [n_elements]
    device float* grad [[buffer(1)]],        // [n_elements]
    device float* exp_avg [[buffer(2)]],     // [n_elements] first moment m
    device float* exp_avg_sq [[buffer(3)]],  // [n_elements] second moment v
    device half* half_copy [[buffer(4)]],    // [has_half ? n_elements : 0]
    constant AdamParams& p [[buffer(5)]],
    uint gid [[thread_position_in_grid]])
{
    const uint begin = gid * p.elements_per_thread;
    if (begin >= p.n_elements) {
        return;
    }
    const uint end = begin + min(p.elements_per_thread, p.n_elements - begin);
    const uint all = p.sparse != 0u ? 0u : 1u;
    uint i = begin;
    while (end - i >= ADAM_BLOCK) {
        const uint blocks = min((end - i) / ADAM_BLOCK, ADAM_BLOCKS);
        uint touched[ADAM_BLOCKS];
        uint n_touched = 0u;
        for (uint b = 0u; b < blocks; ++b) {
            touched[n_touched] = i + b * ADAM_BLOCK;
            n_touched += (adam_any(grad + i + b * ADAM_BLOCK, ADAM_BLOCK) | all) != 0u ? 1u : 0u;
        }
        for (uint b = 0u; b < n_touched; ++b) {
            const uint at = touched[b];
            adam_block(param + at, grad + at, exp_avg + at, exp_avg_sq + at, half_copy + at, p, ADAM_BLOCK);
        }
        i += blocks * ADAM_BLOCK;
    }
    adam_block(param + i, grad + i, exp_avg + i, exp_avg_sq + i, half_copy + i, p, end - i);
}
