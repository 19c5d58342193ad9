// Alpha compositing, one ray by one thread: the host's form. A ray is cut into blocks; within a block the products
// in front and the sums behind are scans, and all else is element by element: the host's compiler makes vectors of
// it.
#ifndef NERF_METAL_COMPOSITE_RAY_H
#define NERF_METAL_COMPOSITE_RAY_H

#include "composite.h"
#include "scan.h"

// Long blocks hide the latency of exp behind one another; short ones keep the tails of rays cheap.
constexpr constant uint COMPOSITE_BLOCK = 64u;
constexpr constant uint COMPOSITE_TAIL = 16u;

// Partial sums a thread keeps, added up at the ray's end.
struct CompositeLanes {
    float r[COMPOSITE_TAIL];
    float g[COMPOSITE_TAIL];
    float b[COMPOSITE_TAIL];
    float depth[COMPOSITE_TAIL];
    float opacity[COMPOSITE_TAIL];
};

// The last samples of a ray, filled up with empty ones.
struct CompositePadded {
    float value[COMPOSITE_TAIL];
    float rgb[3u * COMPOSITE_TAIL];
    float start[COMPOSITE_TAIL];
    float end[COMPOSITE_TAIL];
};

// n elements, then zeros.
template <typename T>
inline void composite_read(thread float* to, device const T* from, uint n, uint size)
{
    for (uint k = 0u; k < size; ++k) {
        to[k] = k < n ? float(from[k]) : 0.0f;
    }
}

template <typename T>
inline void composite_pad(thread CompositePadded& padded, device const T* values, device const T* rgbs,
                          device const float* starts, device const float* ends, uint n)
{
    composite_read(padded.value, values, n, COMPOSITE_TAIL);
    composite_read(padded.rgb, rgbs, 3u * n, 3u * COMPOSITE_TAIL);
    composite_read(padded.start, starts, n, COMPOSITE_TAIL);
    composite_read(padded.end, ends, n, COMPOSITE_TAIL);
}

template <typename T>
inline void composite_write(device T* to, thread const float* from, uint n)
{
    for (uint k = 0u; k < n; ++k) {
        to[k] = T(from[k]);
    }
}

// N samples; the pointers lead to a ray's samples or, at its end, to padded copies of them. Returns the
// transmittance behind the block.
template <uint N, bool IS_ALPHA, typename V, typename S, typename W>
inline float composite_forward_block(V values, V rgbs, S starts, S ends, W weights, W transmittance,
                                     thread CompositeLanes& lanes, float carry, float eps)
{
    float weight[N];
    float keep[N];
    float front[N];
    for (uint k = 0u; k < N; ++k) {
        const CompositeAlpha a = composite_alpha<IS_ALPHA>(float(values[k]), ends[k] - starts[k]);
        weight[k] = a.alpha;
        keep[k] = a.keep;
    }
    carry = prefix_products<N>(keep, front, carry);
    if (!(carry >= eps)) {  // transmittance only falls: in any other block every sample counts
        for (uint k = 0u; k < N; ++k) {
            front[k] = front[k] >= eps ? front[k] : 0.0f;
        }
    }
    for (uint k = 0u; k < N; ++k) {
        weight[k] *= front[k];
    }
    for (uint k = 0u; k < N; ++k) {
        transmittance[k] = front[k];
    }
    for (uint k = 0u; k < N; ++k) {
        weights[k] = weight[k];
    }
    for (uint part = 0u; part < N; part += COMPOSITE_TAIL) {
        for (uint k = 0u; k < COMPOSITE_TAIL; ++k) {
            const uint i = part + k;
            lanes.r[k] += weight[i] * float(rgbs[3u * i]);
            lanes.g[k] += weight[i] * float(rgbs[3u * i + 1u]);
            lanes.b[k] += weight[i] * float(rgbs[3u * i + 2u]);
            lanes.depth[k] += weight[i] * (0.5f * (starts[i] + ends[i]));
            lanes.opacity[k] += weight[i];
        }
    }
    return carry;
}

template <bool IS_ALPHA, typename T>
inline CompositeSums composite_forward_ray(device const T* values, device const T* rgbs,
                                           device const float* t_starts, device const float* t_ends,
                                           device float* weights, device float* transmittance,
                                           constant CompositeParams& p, CompositeSpan span)
{
    const float eps = p.early_stop_eps;
    values += span.first;
    rgbs += 3u * span.first;
    t_starts += span.t_first;
    t_ends += span.t_first;
    weights += span.first;
    transmittance += span.first;
    CompositeLanes lanes = {};
    float carry = 1.0f;
    uint i = 0u;
    while (i < span.count && carry >= eps) {
        const uint rest = span.count - i;
        if (rest >= COMPOSITE_BLOCK) {
            carry = composite_forward_block<COMPOSITE_BLOCK, IS_ALPHA>(values + i, rgbs + 3u * i, t_starts + i,
                                                                       t_ends + i, weights + i, transmittance + i,
                                                                       lanes, carry, eps);
            i += COMPOSITE_BLOCK;
        } else if (rest >= COMPOSITE_TAIL) {
            carry = composite_forward_block<COMPOSITE_TAIL, IS_ALPHA>(values + i, rgbs + 3u * i, t_starts + i,
                                                                      t_ends + i, weights + i, transmittance + i,
                                                                      lanes, carry, eps);
            i += COMPOSITE_TAIL;
        } else {
            CompositePadded padded;
            float weight[COMPOSITE_TAIL];
            float front[COMPOSITE_TAIL];
            composite_pad(padded, values + i, rgbs + 3u * i, t_starts + i, t_ends + i, rest);
            carry = composite_forward_block<COMPOSITE_TAIL, IS_ALPHA>(
                padded.value, padded.rgb, padded.start, padded.end, weight, front, lanes, carry, eps);
            composite_write(weights + i, weight, rest);
            composite_write(transmittance + i, front, rest);
            i += rest;
        }
    }
    composite_clear(weights, transmittance, i, span.count, 1u);
    CompositeSums sums;
    sums.r = total<COMPOSITE_TAIL>(lanes.r);
    sums.g = total<COMPOSITE_TAIL>(lanes.g);
    sums.b = total<COMPOSITE_TAIL>(lanes.b);
    sums.depth = total<COMPOSITE_TAIL>(lanes.depth);
    sums.opacity = total<COMPOSITE_TAIL>(lanes.opacity);
    return sums;
}

// Back to front, with q = dL/dw, h = dL/dT and B the value of everything behind:
//   B_i = q_i alpha_i + h_i + (1 - alpha_i) B_{i+1},   dL/dalpha_i = T_i (q_i - B_{i+1}),   dL/dc_i = w_i g_rgb.
// No division by 1 - alpha and no difference of sums: exact at alpha = 1.
// N samples, as in the forward. extra_w and extra_t are the gradients of weights and transmittance, where there
// are any. E is what the gradients are stored as. Returns B in front of the block.
template <uint N, bool IS_ALPHA, typename E, typename V, typename S, typename G>
inline float composite_backward_block(V values, V rgbs, S starts, S ends, S transmittance, S extra_w, S extra_t,
                                      G grad_values, G grad_rgbs, constant CompositeParams& p,
                                      CompositeCotangent c, float carry)
{
    const float eps = p.early_stop_eps;
    float q[N];
    float keep[N];
    float direct[N];  // q alpha + h, 0 behind the early stop
    float slope[N];   // T dalpha / dvalue
    float weight[N];
    float behind[N];
    for (uint k = 0u; k < N; ++k) {
        q[k] = c.r * float(rgbs[3u * k]) + c.g * float(rgbs[3u * k + 1u]) + c.b * float(rgbs[3u * k + 2u]) +
               c.depth * (0.5f * (starts[k] + ends[k])) + c.constant_part;
    }
    if (p.has_grad_weights != 0u) {
        for (uint k = 0u; k < N; ++k) {
            q[k] += extra_w[k];
        }
    }
    for (uint k = 0u; k < N; ++k) {
        const CompositeAlpha a = composite_alpha<IS_ALPHA>(float(values[k]), ends[k] - starts[k]);
        slope[k] = transmittance[k] * a.slope;
        weight[k] = transmittance[k] * a.alpha;
        keep[k] = a.keep;
        direct[k] = q[k] * a.alpha;
    }
    if (p.has_grad_transmittance != 0u) {
        for (uint k = 0u; k < N; ++k) {
            direct[k] += extra_t[k];
        }
    }
    for (uint k = 0u; k < N; ++k) {
        const bool alive = transmittance[k] >= eps;
        keep[k] = alive ? keep[k] : 0.0f;
        direct[k] = alive ? direct[k] : 0.0f;
    }
    carry = suffix_maps<N>(keep, direct, behind, carry);
    for (uint k = 0u; k < N; ++k) {
        grad_rgbs[3u * k] = E(weight[k] * c.r);
        grad_rgbs[3u * k + 1u] = E(weight[k] * c.g);
        grad_rgbs[3u * k + 2u] = E(weight[k] * c.b);
    }
    for (uint k = 0u; k < N; ++k) {
        grad_values[k] = E(slope[k] * (q[k] - behind[k]));
    }
    return carry;
}

template <bool IS_ALPHA, typename T>
inline void composite_backward_ray(device const T* values, device const T* rgbs, device const float* t_starts,
                                   device const float* t_ends, device const float* transmittance,
                                   device const float* grad_weights, device const float* grad_transmittance,
                                   device T* grad_values, device T* grad_rgbs, constant CompositeParams& p,
                                   CompositeSpan span, CompositeCotangent c)
{
    float carry = 0.0f;
    uint i = span.count;
    while (i > 0u) {
        // The blocks of the forward: long ones from the front, what is left in short ones.
        const uint rest = i % COMPOSITE_BLOCK;
        const uint n = rest == 0u ? COMPOSITE_BLOCK : (rest - 1u) % COMPOSITE_TAIL + 1u;
        i -= n;
        const uint j = span.first + i;
        const uint jt = span.t_first + i;
        device const float* grad_w = grad_weights + (p.has_grad_weights != 0u ? j : 0u);
        device const float* grad_t = grad_transmittance + (p.has_grad_transmittance != 0u ? j : 0u);
        if (n == COMPOSITE_BLOCK) {
            carry = composite_backward_block<COMPOSITE_BLOCK, IS_ALPHA, T>(
                values + j, rgbs + 3u * j, t_starts + jt, t_ends + jt, transmittance + j, grad_w, grad_t,
                grad_values + j, grad_rgbs + 3u * j, p, c, carry);
        } else if (n == COMPOSITE_TAIL) {
            carry = composite_backward_block<COMPOSITE_TAIL, IS_ALPHA, T>(
                values + j, rgbs + 3u * j, t_starts + jt, t_ends + jt, transmittance + j, grad_w, grad_t,
                grad_values + j, grad_rgbs + 3u * j, p, c, carry);
        } else {
            CompositePadded padded;
            float front[COMPOSITE_TAIL];
            float extra_w[COMPOSITE_TAIL] = {};
            float extra_t[COMPOSITE_TAIL] = {};
            float grad_value[COMPOSITE_TAIL];
            float grad_rgb[3u * COMPOSITE_TAIL];
            composite_pad(padded, values + j, rgbs + 3u * j, t_starts + jt, t_ends + jt, n);
            composite_read(front, transmittance + j, n, COMPOSITE_TAIL);
            if (p.has_grad_weights != 0u) {
                composite_read(extra_w, grad_w, n, COMPOSITE_TAIL);
            }
            if (p.has_grad_transmittance != 0u) {
                composite_read(extra_t, grad_t, n, COMPOSITE_TAIL);
            }
            carry = composite_backward_block<COMPOSITE_TAIL, IS_ALPHA, float>(
                padded.value, padded.rgb, padded.start, padded.end, front, extra_w, extra_t, grad_value, grad_rgb,
                p, c, carry);
            composite_write(grad_values + j, grad_value, n);
            composite_write(grad_rgbs + 3u * j, grad_rgb, 3u * n);
        }
    }
}

#endif
