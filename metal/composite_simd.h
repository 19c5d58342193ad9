// Alpha compositing, one ray by one SIMD-group: lane l holds sample base + l, and what the plain form of
// composite.h does in order, the products in front and the sums behind, are scans over the lanes.
#ifndef NERF_METAL_COMPOSITE_SIMD_H
#define NERF_METAL_COMPOSITE_SIMD_H

#include "composite.h"

template <bool IS_ALPHA, typename T>
inline CompositeSums composite_forward_group(device const T* values, device const T* rgbs,
                                             device const float* t_starts, device const float* t_ends,
                                             device float* weights, device float* transmittance,
                                             constant CompositeParams& p, CompositeSpan span, uint lane)
{
    CompositeSums sums;
    sums.r = sums.g = sums.b = sums.depth = sums.opacity = 0.0f;
    float carry = 1.0f;
    for (uint base = 0u; base < span.count; base += SIMD_WIDTH) {
        const uint i = base + lane;
        const bool inside = i < span.count;
        const uint j = span.first + i;
        const uint jt = span.t_first + i;
        CompositeAlpha a;
        a.alpha = 0.0f;
        a.keep = 1.0f;
        float middle = 0.0f;
        if (inside) {
            a = composite_alpha<IS_ALPHA>(float(values[j]), t_ends[jt] - t_starts[jt]);
            middle = 0.5f * (t_starts[jt] + t_ends[jt]);
        }
        const float front = carry * simd_prefix_exclusive_product(a.keep);
        carry *= simd_product(a.keep);
        const float alive = front >= p.early_stop_eps ? front : 0.0f;
        const float w = alive * a.alpha;
        if (inside) {
            weights[j] = w;
            transmittance[j] = alive;
            sums.r += w * float(rgbs[3u * j]);
            sums.g += w * float(rgbs[3u * j + 1u]);
            sums.b += w * float(rgbs[3u * j + 2u]);
            sums.depth += w * middle;
            sums.opacity += w;
        }
        if (carry < p.early_stop_eps) {  // the same carry in every lane
            composite_clear(weights, transmittance, j + SIMD_WIDTH, span.first + span.count, SIMD_WIDTH);
            break;
        }
    }
    sums.r = simd_sum(sums.r);
    sums.g = simd_sum(sums.g);
    sums.b = simd_sum(sums.b);
    sums.depth = simd_sum(sums.depth);
    sums.opacity = simd_sum(sums.opacity);
    return sums;
}

template <bool IS_ALPHA, typename T>
inline void composite_backward_group(device const T* values, device const T* rgbs, device const float* t_starts,
                                     device const float* t_ends, device const float* transmittance,
                                     device const float* grad_weights, device const float* grad_transmittance,
                                     device T* grad_values, device T* grad_rgbs, constant CompositeParams& p,
                                     CompositeSpan span, CompositeCotangent c, uint lane)
{
    float behind = 0.0f;  // B of the sample after this block
    uint done = (span.count + SIMD_WIDTH - 1u) / SIMD_WIDTH * SIMD_WIDTH;
    while (done > 0u) {
        done -= SIMD_WIDTH;
        const uint i = done + lane;
        const bool inside = i < span.count;
        const uint j = span.first + i;
        const uint jt = span.t_first + i;
        CompositeAlpha a;
        a.alpha = 0.0f;
        a.keep = 1.0f;
        a.slope = 0.0f;
        float q = 0.0f;
        float front = 0.0f;
        float scale = 1.0f;   // B of this lane as a map of B behind: offset + scale B
        float offset = 0.0f;  // outside the ray: the identity
        if (inside) {
            a = composite_alpha<IS_ALPHA>(float(values[j]), t_ends[jt] - t_starts[jt]);
            front = transmittance[j];
            q = c.r * float(rgbs[3u * j]) + c.g * float(rgbs[3u * j + 1u]) + c.b * float(rgbs[3u * j + 2u]) +
                c.depth * (0.5f * (t_starts[jt] + t_ends[jt])) + c.constant_part;
            if (p.has_grad_weights != 0u) {
                q += grad_weights[j];
            }
            const bool alive = front >= p.early_stop_eps;
            const float h = p.has_grad_transmittance != 0u ? grad_transmittance[j] : 0.0f;
            scale = alive ? a.keep : 0.0f;
            offset = alive ? q * a.alpha + h : 0.0f;
        }
        // Inclusive suffix scan of the maps (Hillis and Steele): after it a lane's map covers itself to lane 31.
        for (uint step = 1u; step < SIMD_WIDTH; step *= 2u) {
            const float next_scale = simd_shuffle_down(scale, ushort(step));
            const float next_offset = simd_shuffle_down(offset, ushort(step));
            if (lane + step < SIMD_WIDTH) {
                offset += scale * next_offset;
                scale *= next_scale;
            }
        }
        const float here = offset + scale * behind;
        const float after = simd_shuffle_down(here, ushort(1));
        const float suffix = lane + 1u < SIMD_WIDTH ? after : behind;
        behind = simd_broadcast(here, ushort(0));
        if (inside) {
            const float w = front * a.alpha;
            grad_values[j] = T(front * a.slope * (q - suffix));
            grad_rgbs[3u * j] = T(w * c.r);
            grad_rgbs[3u * j + 1u] = T(w * c.g);
            grad_rgbs[3u * j + 2u] = T(w * c.b);
        }
    }
}

#endif
