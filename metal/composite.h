// Alpha compositing: the inline functions that the kernels of composite.metal share.
// Letters: tau optical depth, alpha opacity, keep = 1 - alpha, trans transmittance in front of a sample, w its
// weight.
#ifndef NERF_METAL_COMPOSITE_H
#define NERF_METAL_COMPOSITE_H

#include "common.h"
#include "exponential.h"
#include "packed.h"
#include "params.h"

// Which samples belong to a ray.
struct CompositeSpan {
    uint first;    // of values, colours, weights
    uint t_first;  // of t_starts and t_ends
    uint count;
};

inline CompositeSpan composite_span(device const int* packed_info, constant CompositeParams& p, uint ray)
{
    CompositeSpan span;
    if (p.packed != 0u) {
        const PackedSpan packed = packed_span(packed_info, ray, p.n_samples);
        span.first = packed.first;
        span.t_first = packed.first;
        span.count = packed.count;
    } else {
        span.first = ray * p.n_samples;
        span.t_first = ray * p.t_stride;
        span.count = p.n_samples;
    }
    return span;
}

// 127 ln 2: exp(-tau) is below every normal float.
constexpr constant float COMPOSITE_OPAQUE = 88.0296919f;

struct CompositeAlpha {
    float alpha;
    float keep;   // 1 - alpha
    float slope;  // d alpha / d value; 0 where the value was clamped
};

// A density or an alpha as opacity. exp(-tau) = s (1 + p) with s = 2^-n and p = expm1(n ln 2 - tau), so that
// 1 - exp(-tau) = (1 - s) - s p loses nothing where tau is small (MSL has no expm1). Cody and Waite's ln 2 in two
// parts; within 2 ulp. From n = 127 on, s is the float of all bits 0: opaque. An infinite density counts as the
// largest float, so that an interval of no length stays transparent.
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
    const float limited = tau > COMPOSITE_OPAQUE ? COMPOSITE_OPAQUE : tau;
    const int n = int((limited > 0.0f ? limited : 0.0f) * 1.44269504f + 0.5f);  // a number even for a NaN
    const float steps = float(n);
    const float r = (steps * 0.693359375f - limited) - steps * 2.12194440e-4f;
    const float p = exponential_fraction(r);
    const float s = as_type<float>(uint(127 - n) << 23u);
    a.keep = s * (1.0f + p);  // no product below the normal numbers
    a.alpha = (1.0f - s) - s * p;
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
