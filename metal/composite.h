// Alpha compositing: the inline functions that the kernels of composite.metal share.
// Letters: tau optical depth, alpha opacity, keep = 1 - alpha, trans transmittance in front of a sample, w its weight.
#ifndef NERF_METAL_COMPOSITE_H
#define NERF_METAL_COMPOSITE_H

#include "common.h"
#include "params.h"

// Samples a thread holds at a time: whole vector registers on the host, few enough for a GPU's.
constexpr constant uint COMPOSITE_BLOCK = 16u;

// Which samples belong to a ray.
struct CompositeSpan {
    uint first;    // of values, colours, weights
    uint t_first;  // of t_starts and t_ends
    uint count;
};

// packed_info comes from outside and is cut to the samples there are: no entry can lead out of the buffers.
inline CompositeSpan composite_span(device const int* packed_info, constant CompositeParams& p, uint ray)
{
    CompositeSpan span;
    if (p.packed != 0u) {
        const uint start = uint(max(packed_info[2u * ray], 0));
        const uint count = uint(max(packed_info[2u * ray + 1u], 0));
        span.first = min(start, p.n_samples);
        span.t_first = span.first;
        span.count = min(count, p.n_samples - span.first);
    } else {
        span.first = ray * p.n_samples;
        span.t_first = ray * p.t_stride;
        span.count = p.n_samples;
    }
    return span;
}

struct CompositeAlpha {
    float alpha;
    float keep;   // 1 - alpha
    float slope;  // d alpha / d value, over keep; 0 where the value was clamped
};

// A density or an alpha as opacity. 1 - exp(-tau) cancels below tau = 1/4: there its series to tau^6, whose first
// dropped term is 5e-8 of the value (MSL has no expm1). An infinite density counts as the largest float, so that an
// interval of no length stays transparent.
inline CompositeAlpha composite_alpha(float value, float dt, bool is_alpha)
{
    const bool inside = value >= 0.0f && value <= FLOAT_MAX;
    const float sigma = value < 0.0f ? 0.0f : (value > FLOAT_MAX ? FLOAT_MAX : value);
    const float tau = sigma * dt;
    const float e = exp(-tau);
    const float series =
        tau *
        (1.0f -
         tau * (0.5f -
                tau * (0.16666667f - tau * (0.041666668f - tau * (0.0083333338f - tau * 0.0013888889f)))));
    CompositeAlpha a;
    a.alpha = is_alpha ? value : (tau < 0.25f ? series : 1.0f - e);
    a.keep = is_alpha ? 1.0f - value : e;
    a.slope = inside ? dt : 0.0f;
    return a;
}

// Samples behind the early stop: they have no part in the picture.
inline void composite_clear(device float* weights, device float* transmittance, uint begin, uint end, uint step)
{
    for (uint i = begin; i < end; i += step) {
        weights[i] = 0.0f;
        transmittance[i] = 0.0f;
    }
}

struct CompositeSums {
    float r;
    float g;
    float b;
    float depth;
    float opacity;
};

inline void composite_store(device float* rgb, device float* depth, device float* opacity,
                            device const float* background, constant CompositeParams& p, uint ray,
                            CompositeSums sums)
{
    float3 behind = float3(0.0f, 0.0f, 0.0f);
    if (p.has_background != 0u) {
        const uint j = ray * p.background_stride;
        behind = float3(background[j], background[j + 1u], background[j + 2u]);
    }
    const float rest = 1.0f - sums.opacity;
    rgb[3u * ray] = sums.r + rest * behind.x;
    rgb[3u * ray + 1u] = sums.g + rest * behind.y;
    rgb[3u * ray + 2u] = sums.b + rest * behind.z;
    depth[ray] = sums.depth;
    opacity[ray] = sums.opacity;
}

// One ray by one thread, in blocks: the exponentials of a block are independent, only the products run in order.
template <typename T>
inline CompositeSums composite_forward_ray(device const T* values, device const T* rgbs, device const float* t_starts,
                                           device const float* t_ends, device float* weights,
                                           device float* transmittance, constant CompositeParams& p,
                                           CompositeSpan span)
{
    const bool is_alpha = p.is_alpha != 0u;
    const float eps = p.early_stop_eps;
    CompositeSums sums;
    sums.r = sums.g = sums.b = sums.depth = sums.opacity = 0.0f;
    float trans = 1.0f;
    for (uint base = 0u; base < span.count; base += COMPOSITE_BLOCK) {
        const uint n = min(COMPOSITE_BLOCK, span.count - base);
        const uint j = span.first + base;
        device const float* start = t_starts + span.t_first + base;
        device const float* end = t_ends + span.t_first + base;
        float alpha[COMPOSITE_BLOCK];
        float keep[COMPOSITE_BLOCK];
        float front[COMPOSITE_BLOCK];
        for (uint k = 0u; k < n; ++k) {
            const CompositeAlpha a = composite_alpha(float(values[j + k]), end[k] - start[k], is_alpha);
            alpha[k] = a.alpha;
            keep[k] = a.keep;
        }
        for (uint k = 0u; k < n; ++k) {
            front[k] = trans;
            trans *= keep[k];
        }
        for (uint k = 0u; k < n; ++k) {
            const float alive = front[k] >= eps ? front[k] : 0.0f;
            transmittance[j + k] = alive;
            alpha[k] = alive * alpha[k];
            weights[j + k] = alpha[k];
        }
        for (uint k = 0u; k < n; ++k) {
            const float w = alpha[k];
            sums.r += w * float(rgbs[3u * (j + k)]);
            sums.g += w * float(rgbs[3u * (j + k) + 1u]);
            sums.b += w * float(rgbs[3u * (j + k) + 2u]);
            sums.depth += w * (0.5f * (start[k] + end[k]));
            sums.opacity += w;
        }
        if (trans < eps) {
            composite_clear(weights, transmittance, j + n, span.first + span.count, 1u);
            break;
        }
    }
    return sums;
}

// What the loss says about the weight of a sample: dL/dw = g_rgb . (c - background) + g_depth t + g_opacity + g_w.
struct CompositeCotangent {
    float r;
    float g;
    float b;
    float depth;
    float constant_part;  // g_opacity - g_rgb . background
};

inline CompositeCotangent composite_cotangent(device const float* grad_rgb, device const float* grad_depth,
                                              device const float* grad_opacity, device const float* background,
                                              constant CompositeParams& p, uint ray)
{
    CompositeCotangent c;
    c.r = grad_rgb[3u * ray];
    c.g = grad_rgb[3u * ray + 1u];
    c.b = grad_rgb[3u * ray + 2u];
    c.depth = grad_depth[ray];
    c.constant_part = grad_opacity[ray];
    if (p.has_background != 0u) {
        const uint j = ray * p.background_stride;
        c.constant_part -= c.r * background[j] + c.g * background[j + 1u] + c.b * background[j + 2u];
    }
    return c;
}

// Back to front, with q = dL/dw, h = dL/dT and B the value of everything behind:
//   B_i = q_i alpha_i + h_i + (1 - alpha_i) B_{i+1},   dL/dalpha_i = T_i (q_i - B_{i+1}),   dL/dc_i = w_i g_rgb.
// No division by 1 - alpha and no difference of sums: exact at alpha = 1.
template <typename T>
inline void composite_backward_ray(device const T* values, device const T* rgbs, device const float* t_starts,
                                   device const float* t_ends, device const float* transmittance,
                                   device const float* grad_weights, device const float* grad_transmittance,
                                   device T* grad_values, device T* grad_rgbs, constant CompositeParams& p,
                                   CompositeSpan span, CompositeCotangent c)
{
    const bool is_alpha = p.is_alpha != 0u;
    const float eps = p.early_stop_eps;
    float behind = 0.0f;
    uint done = span.count;
    while (done > 0u) {
        const uint n = (done - 1u) % COMPOSITE_BLOCK + 1u;  // only the last block of a ray is short
        done -= n;
        const uint j = span.first + done;
        device const float* start = t_starts + span.t_first + done;
        device const float* end = t_ends + span.t_first + done;
        float q[COMPOSITE_BLOCK];
        float keep[COMPOSITE_BLOCK];
        float direct[COMPOSITE_BLOCK];  // q alpha + h, 0 behind the early stop
        float scale[COMPOSITE_BLOCK];   // T dalpha/dvalue
        float weight[COMPOSITE_BLOCK];
        for (uint k = 0u; k < n; ++k) {
            const CompositeAlpha a = composite_alpha(float(values[j + k]), end[k] - start[k], is_alpha);
            const float front = transmittance[j + k];
            const float alive = front >= eps ? 1.0f : 0.0f;
            q[k] = c.r * float(rgbs[3u * (j + k)]) + c.g * float(rgbs[3u * (j + k) + 1u]) +
                   c.b * float(rgbs[3u * (j + k) + 2u]) + c.depth * (0.5f * (start[k] + end[k])) + c.constant_part;
            scale[k] = is_alpha ? front : front * a.keep * a.slope;
            weight[k] = front * a.alpha;
            keep[k] = alive * a.keep;
            direct[k] = alive * a.alpha;
        }
        if (p.has_grad_weights != 0u) {
            for (uint k = 0u; k < n; ++k) {
                q[k] += grad_weights[j + k];
            }
        }
        if (p.has_grad_transmittance != 0u) {
            for (uint k = 0u; k < n; ++k) {
                const float alive = transmittance[j + k] >= eps ? 1.0f : 0.0f;
                direct[k] = q[k] * direct[k] + alive * grad_transmittance[j + k];
            }
        } else {
            for (uint k = 0u; k < n; ++k) {
                direct[k] = q[k] * direct[k];
            }
        }
        for (uint k = n; k-- > 0u;) {
            const float here = behind;
            behind = direct[k] + keep[k] * behind;
            direct[k] = here;
        }
        for (uint k = 0u; k < n; ++k) {
            grad_values[j + k] = T(scale[k] * (q[k] - direct[k]));
        }
        for (uint k = 0u; k < n; ++k) {
            grad_rgbs[3u * (j + k)] = T(weight[k] * c.r);
            grad_rgbs[3u * (j + k) + 1u] = T(weight[k] * c.g);
            grad_rgbs[3u * (j + k) + 2u] = T(weight[k] * c.b);
        }
    }
}

// grad_background = (1 - opacity) g_rgb, for each ray; a shared background's gradient is their sum.
inline void composite_backward_background(device float* grad_background, device const float* opacity,
                                          CompositeCotangent c, uint ray)
{
    const float rest = 1.0f - opacity[ray];
    grad_background[3u * ray] = rest * c.r;
    grad_background[3u * ray + 1u] = rest * c.g;
    grad_background[3u * ray + 2u] = rest * c.b;
}

// The same two, one ray by one SIMD-group: lane l holds sample base + l, the products and the sums behind are scans.
template <typename T>
inline CompositeSums composite_forward_group(device const T* values, device const T* rgbs,
                                             device const float* t_starts, device const float* t_ends,
                                             device float* weights, device float* transmittance,
                                             constant CompositeParams& p, CompositeSpan span, uint lane)
{
    const bool is_alpha = p.is_alpha != 0u;
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
            a = composite_alpha(float(values[j]), t_ends[jt] - t_starts[jt], is_alpha);
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

template <typename T>
inline void composite_backward_group(device const T* values, device const T* rgbs, device const float* t_starts,
                                     device const float* t_ends, device const float* transmittance,
                                     device const float* grad_weights, device const float* grad_transmittance,
                                     device T* grad_values, device T* grad_rgbs, constant CompositeParams& p,
                                     CompositeSpan span, CompositeCotangent c, uint lane)
{
    const bool is_alpha = p.is_alpha != 0u;
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
            a = composite_alpha(float(values[j]), t_ends[jt] - t_starts[jt], is_alpha);
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
            grad_values[j] = T((is_alpha ? front : front * a.keep * a.slope) * (q - suffix));
            grad_rgbs[3u * j] = T(w * c.r);
            grad_rgbs[3u * j + 1u] = T(w * c.g);
            grad_rgbs[3u * j + 2u] = T(w * c.b);
        }
    }
}

#endif
