// Alpha compositing: the inline functions that the kernels of composite.metal share.
// Letters: tau optical depth, alpha opacity, keep = 1 - alpha, trans transmittance in front of a sample, w its
// weight.
#ifndef NERF_METAL_COMPOSITE_H
#define NERF_METAL_COMPOSITE_H

#include "common.h"
#include "params.h"

// Samples a thread holds at a time. 32 on the host: with 16 a block's products were read back as vectors before
// they had left the store queue (2.2 against 1.7 ns a sample), with 64 the tails of short rays cost more.
constexpr constant uint COMPOSITE_BLOCK = 32u;

// Partial sums a thread keeps, added up at the ray's end: half a block.
constexpr constant uint COMPOSITE_LANES = COMPOSITE_BLOCK / 2u;

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
    float slope;  // d alpha / d value; 0 where the value was clamped
};

// A density or an alpha as opacity. 1 - exp(-tau) cancels below tau = 1/4: there its series to tau^6, whose first
// dropped term is 5e-8 of the value (MSL has no expm1). An infinite density counts as the largest float, so that
// an interval of no length stays transparent.
template <bool IS_ALPHA>
inline CompositeAlpha composite_alpha(float value, float dt)
{
    CompositeAlpha a;
    if (IS_ALPHA) {
        a.alpha = value;
        a.keep = 1.0f - value;
        a.slope = 1.0f;
        return a;
    }
    const float finite = value > FLOAT_MAX ? FLOAT_MAX : value;
    const float tau = (finite < 0.0f ? 0.0f : finite) * dt;
    const float series =
        tau * (1.0f - tau * (0.5f - tau * (0.16666667f -
                                           tau * (0.041666668f - tau * (0.0083333338f - tau * 0.0013888889f)))));
    a.keep = exp(-tau);
    a.alpha = tau < 0.25f ? series : 1.0f - a.keep;
    a.slope = a.keep * (value < 0.0f ? 0.0f : (value > FLOAT_MAX ? 0.0f : dt));
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

// A block of one ray's samples in the thread's own memory; samples past the ray's end are empty.
struct CompositeBlock {
    float value[COMPOSITE_BLOCK];
    float dt[COMPOSITE_BLOCK];
    float middle[COMPOSITE_BLOCK];
    float rgb[3u * COMPOSITE_BLOCK];
};

template <typename T>
inline void composite_load(thread CompositeBlock& block, device const T* values, device const T* rgbs,
                           device const float* start, device const float* end, uint n)
{
    if (n == COMPOSITE_BLOCK) {  // loops of known length become whole vectors
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            block.value[k] = float(values[k]);
            block.dt[k] = end[k] - start[k];
            block.middle[k] = 0.5f * (start[k] + end[k]);
        }
        for (uint k = 0u; k < 3u * COMPOSITE_BLOCK; ++k) {
            block.rgb[k] = float(rgbs[k]);
        }
        return;
    }
    for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
        const bool inside = k < n;
        block.value[k] = inside ? float(values[k]) : 0.0f;
        block.dt[k] = inside ? end[k] - start[k] : 0.0f;
        block.middle[k] = inside ? 0.5f * (start[k] + end[k]) : 0.0f;
    }
    for (uint k = 0u; k < 3u * COMPOSITE_BLOCK; ++k) {
        block.rgb[k] = k < 3u * n ? float(rgbs[k]) : 0.0f;
    }
}

// n of a block's elements; what is missing reads 0.
inline void composite_read(thread float* to, device const float* from, uint n)
{
    if (n == COMPOSITE_BLOCK) {
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            to[k] = from[k];
        }
        return;
    }
    for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
        to[k] = k < n ? from[k] : 0.0f;
    }
}

template <typename T>
inline void composite_write(device T* out, thread const float* from, uint n, uint block)
{
    if (n == block) {
        for (uint k = 0u; k < block; ++k) {
            out[k] = T(from[k]);
        }
        return;
    }
    for (uint k = 0u; k < n; ++k) {
        out[k] = T(from[k]);
    }
}

// front[k] = carry * product of keep before k. Four runs of four side by side: a chain of products a quarter as
// long.
inline float composite_products(thread const float* keep, thread float* front, float carry)
{
    for (uint run = 0u; run < COMPOSITE_BLOCK; run += 4u) {
        const float one = keep[run];
        const float two = one * keep[run + 1u];
        const float three = two * keep[run + 2u];
        const float four = three * keep[run + 3u];
        front[run] = carry;
        front[run + 1u] = carry * one;
        front[run + 2u] = carry * two;
        front[run + 3u] = carry * three;
        carry *= four;
    }
    return carry;
}

inline float composite_total(thread float* lanes)
{
    for (uint k = 0u; k < 8u; ++k) {
        lanes[k] += lanes[k + 8u];
    }
    for (uint k = 0u; k < 4u; ++k) {
        lanes[k] += lanes[k + 4u];
    }
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// One ray by one thread, in blocks: within a block only the products run in order, all else is element by element.
template <bool IS_ALPHA, typename T>
inline CompositeSums composite_forward_ray(device const T* values, device const T* rgbs,
                                           device const float* t_starts, device const float* t_ends,
                                           device float* weights, device float* transmittance,
                                           constant CompositeParams& p, CompositeSpan span)
{
    const float eps = p.early_stop_eps;
    CompositeBlock block;
    float keep[COMPOSITE_BLOCK];
    float front[COMPOSITE_BLOCK];
    float weight[COMPOSITE_BLOCK];
    float r[COMPOSITE_LANES];
    float g[COMPOSITE_LANES];
    float b[COMPOSITE_LANES];
    float depth[COMPOSITE_LANES];
    float opacity[COMPOSITE_LANES];
    for (uint k = 0u; k < COMPOSITE_LANES; ++k) {
        r[k] = g[k] = b[k] = depth[k] = opacity[k] = 0.0f;
    }
    float carry = 1.0f;
    for (uint base = 0u; base < span.count; base += COMPOSITE_BLOCK) {
        const uint n = min(COMPOSITE_BLOCK, span.count - base);
        const uint j = span.first + base;
        const uint jt = span.t_first + base;
        composite_load(block, values + j, rgbs + 3u * j, t_starts + jt, t_ends + jt, n);
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            const CompositeAlpha a = composite_alpha<IS_ALPHA>(block.value[k], block.dt[k]);
            weight[k] = a.alpha;
            keep[k] = a.keep;
        }
        carry = composite_products(keep, front, carry);
        if (carry < eps) {  // transmittance only falls: in any other block every sample counts
            for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
                front[k] = front[k] >= eps ? front[k] : 0.0f;
            }
        }
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            weight[k] *= front[k];
        }
        composite_write(transmittance + j, front, n, COMPOSITE_BLOCK);
        composite_write(weights + j, weight, n, COMPOSITE_BLOCK);
        for (uint k = 0u; k < COMPOSITE_LANES; ++k) {
            const uint l = k + COMPOSITE_LANES;
            r[k] += weight[k] * block.rgb[3u * k] + weight[l] * block.rgb[3u * l];
            g[k] += weight[k] * block.rgb[3u * k + 1u] + weight[l] * block.rgb[3u * l + 1u];
            b[k] += weight[k] * block.rgb[3u * k + 2u] + weight[l] * block.rgb[3u * l + 2u];
            depth[k] += weight[k] * block.middle[k] + weight[l] * block.middle[l];
            opacity[k] += weight[k] + weight[l];
        }
        if (carry < eps) {
            composite_clear(weights, transmittance, j + n, span.first + span.count, 1u);
            break;
        }
    }
    CompositeSums sums;
    sums.r = composite_total(r);
    sums.g = composite_total(g);
    sums.b = composite_total(b);
    sums.depth = composite_total(depth);
    sums.opacity = composite_total(opacity);
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
// behind[k] = B after sample k, from its map B_k = direct + keep * B_{k+1}; in runs of four, as the products
// above.
inline float composite_suffixes(thread const float* keep, thread const float* direct, thread float* behind,
                                float carry)
{
    for (uint run = COMPOSITE_BLOCK; run > 0u; run -= 4u) {
        const uint k = run - 4u;
        const float k3 = keep[k + 3u];
        const float d3 = direct[k + 3u];
        const float k2 = keep[k + 2u] * k3;
        const float d2 = direct[k + 2u] + keep[k + 2u] * d3;
        const float k1 = keep[k + 1u] * k2;
        const float d1 = direct[k + 1u] + keep[k + 1u] * d2;
        const float k0 = keep[k] * k1;
        const float d0 = direct[k] + keep[k] * d1;
        behind[k + 3u] = carry;
        behind[k + 2u] = d3 + k3 * carry;
        behind[k + 1u] = d2 + k2 * carry;
        behind[k] = d1 + k1 * carry;
        carry = d0 + k0 * carry;
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
    const float eps = p.early_stop_eps;
    CompositeBlock block;
    float front[COMPOSITE_BLOCK];
    float q[COMPOSITE_BLOCK];
    float keep[COMPOSITE_BLOCK];
    float direct[COMPOSITE_BLOCK];  // q alpha + h, 0 behind the early stop
    float slope[COMPOSITE_BLOCK];   // T dalpha / dvalue
    float weight[COMPOSITE_BLOCK];
    float behind[COMPOSITE_BLOCK];
    float extra[COMPOSITE_BLOCK];
    float grad_rgb[3u * COMPOSITE_BLOCK];
    float carry = 0.0f;
    uint done = span.count;
    while (done > 0u) {
        const uint n = (done - 1u) % COMPOSITE_BLOCK + 1u;  // only the last block of a ray is short
        done -= n;
        const uint j = span.first + done;
        const uint jt = span.t_first + done;
        composite_load(block, values + j, rgbs + 3u * j, t_starts + jt, t_ends + jt, n);
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            q[k] = c.r * block.rgb[3u * k] + c.g * block.rgb[3u * k + 1u] + c.b * block.rgb[3u * k + 2u] +
                   c.depth * block.middle[k] + c.constant_part;
        }
        composite_read(front, transmittance + j, n);
        if (p.has_grad_weights != 0u) {
            composite_read(extra, grad_weights + j, n);
            for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
                q[k] += extra[k];
            }
        }
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            const CompositeAlpha a = composite_alpha<IS_ALPHA>(block.value[k], block.dt[k]);
            slope[k] = front[k] * a.slope;
            weight[k] = front[k] * a.alpha;
            keep[k] = a.keep;
            direct[k] = q[k] * a.alpha;
        }
        if (p.has_grad_transmittance != 0u) {
            composite_read(extra, grad_transmittance + j, n);
            for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
                direct[k] += extra[k];
            }
        }
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            keep[k] = front[k] >= eps ? keep[k] : 0.0f;
            direct[k] = front[k] >= eps ? direct[k] : 0.0f;
        }
        carry = composite_suffixes(keep, direct, behind, carry);
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            grad_rgb[3u * k] = weight[k] * c.r;
            grad_rgb[3u * k + 1u] = weight[k] * c.g;
            grad_rgb[3u * k + 2u] = weight[k] * c.b;
        }
        composite_write(grad_rgbs + 3u * j, grad_rgb, 3u * n, 3u * COMPOSITE_BLOCK);
        // Last, so that what the suffixes stored one by one has left the store queue.
        for (uint k = 0u; k < COMPOSITE_BLOCK; ++k) {
            slope[k] *= q[k] - behind[k];
        }
        composite_write(grad_values + j, slope, n, COMPOSITE_BLOCK);
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

#endif
