// Alpha compositing, front to back: rgb = sum_i w_i c_i + (1 - sum_i w_i) background, w_i = T_i alpha_i,
// T_i = prod_{j<i} (1 - alpha_j), alpha_i = 1 - exp(-sigma_i dt_i). Equations: nerf_metal/reference/composite.py;
// the backward recursion: composite_ray.h.
//
// Each kernel twice: one ray per thread, which the host runs, and one ray per SIMD-group (_simd), which the GPU
// runs; each for float and for half inputs (sums in float). Dense rays have n_samples each, and t may have a row
// stride; packed rays have (start, count) in packed_info.
#include "common.h"
#include "composite.h"
#include "composite_ray.h"
#include "composite_simd.h"
#include "params.h"

// Elements of all rays: of what each sample has, of t, of the background.
// length samples = packed ? n_samples : n_rays * n_samples
// length times = packed ? n_samples : (n_rays - 1) * t_stride + n_samples
// length behind = has_background ? (n_rays - 1) * background_stride + 3 : 0

// Picture, weights and transmittance of a ray.
// Dispatched threads: n_rays, one per ray; SIMD: SIMD_WIDTH * n_rays, one SIMD-group per ray, threadgroups of
// whole SIMD-groups. Not handled: rays that share samples.
template <typename T, bool SIMD>
kernel void composite_forward(
    device const T* values [[buffer(0)]],          // [samples] sigma, 1 / world unit, or alpha
    device const T* rgbs [[buffer(1)]],            // [samples, 3]
    device const float* t_starts [[buffer(2)]],    // [times] world units
    device const float* t_ends [[buffer(3)]],      // [times] world units
    device const int* packed_info [[buffer(4)]],   // [packed * n_rays, 2] start, count
    device const float* background [[buffer(5)]],  // [behind]
    device float* rgb [[buffer(6)]],               // [n_rays, 3]
    device float* depth [[buffer(7)]],             // [n_rays] world units
    device float* opacity [[buffer(8)]],           // [n_rays]
    device float* weights [[buffer(9)]],           // [samples]
    device float* transmittance [[buffer(10)]],    // [samples]
    constant CompositeParams& p [[buffer(11)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const uint ray = SIMD ? gid / SIMD_WIDTH : gid;
    if (ray >= p.n_rays) {
        return;
    }
    const CompositeSpan span = composite_span(packed_info, p, ray);
    CompositeSums sums;
    if (SIMD) {
        sums = p.is_alpha != 0u ? composite_forward_group<true>(values, rgbs, t_starts, t_ends, weights,
                                                                transmittance, p, span, lane)
                                : composite_forward_group<false>(values, rgbs, t_starts, t_ends, weights,
                                                                 transmittance, p, span, lane);
    } else {
        sums = p.is_alpha != 0u ? composite_forward_ray<true>(values, rgbs, t_starts, t_ends, weights,
                                                              transmittance, p, span)
                                : composite_forward_ray<false>(values, rgbs, t_starts, t_ends, weights,
                                                               transmittance, p, span);
    }
    if (!SIMD || lane == 0u) {
        composite_store(rgb, depth, opacity, background, p, ray, sums);
    }
}

INSTANTIATE(composite_forward_f32, composite_forward, float, false);
INSTANTIATE(composite_forward_f16, composite_forward, half, false);
INSTANTIATE(composite_forward_simd_f32, composite_forward, float, true);
INSTANTIATE(composite_forward_simd_f16, composite_forward, half, true);

// Gradients to values, colours and background of a ray.
// Dispatched threads: as above. One ray per thread takes the last ray first: samples are read back to front, and
// prefetchers follow one direction (2.2 against 4.1 ns a sample).
// Not handled: gradients to t_starts and t_ends; rays that share samples.
template <typename T, bool SIMD>
kernel void composite_backward(
    device const T* values [[buffer(0)]],                   // [samples] sigma, 1 / world unit, or alpha
    device const T* rgbs [[buffer(1)]],                     // [samples, 3]
    device const float* t_starts [[buffer(2)]],             // [times] world units
    device const float* t_ends [[buffer(3)]],               // [times] world units
    device const int* packed_info [[buffer(4)]],            // [packed * n_rays, 2] start, count
    device const float* background [[buffer(5)]],           // [behind]
    device const float* opacity [[buffer(6)]],              // [n_rays]
    device const float* transmittance [[buffer(7)]],        // [samples]
    device const float* grad_rgb [[buffer(8)]],             // [n_rays, 3]
    device const float* grad_depth [[buffer(9)]],           // [n_rays]
    device const float* grad_opacity [[buffer(10)]],        // [n_rays]
    device const float* grad_weights [[buffer(11)]],        // [has_grad_weights * samples]
    device const float* grad_transmittance [[buffer(12)]],  // [has_grad_transmittance * samples]
    device T* grad_values [[buffer(13)]],                   // [samples]
    device T* grad_rgbs [[buffer(14)]],                     // [samples, 3]
    device float* grad_background [[buffer(15)]],           // [has_background * n_rays, 3]
    constant CompositeParams& p [[buffer(16)]],
    uint gid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]])
{
    const uint at = SIMD ? gid / SIMD_WIDTH : gid;
    if (at >= p.n_rays) {
        return;
    }
    const uint ray = SIMD ? at : p.n_rays - 1u - at;
    const CompositeSpan span = composite_span(packed_info, p, ray);
    const CompositeCotangent c = composite_cotangent(grad_rgb, grad_depth, grad_opacity, background, p, ray);
    if (SIMD && p.is_alpha != 0u) {
        composite_backward_group<true>(values, rgbs, t_starts, t_ends,
                                       transmittance, grad_weights, grad_transmittance,
                                       grad_values, grad_rgbs, p, span, c, lane);
    } else if (SIMD) {
        composite_backward_group<false>(values, rgbs, t_starts, t_ends,
                                        transmittance, grad_weights, grad_transmittance,
                                        grad_values, grad_rgbs, p, span, c, lane);
    } else if (p.is_alpha != 0u) {
        composite_backward_ray<true>(values, rgbs, t_starts, t_ends,
                                     transmittance, grad_weights, grad_transmittance,
                                     grad_values, grad_rgbs, p, span, c);
    } else {
        composite_backward_ray<false>(values, rgbs, t_starts, t_ends,
                                      transmittance, grad_weights, grad_transmittance,
                                      grad_values, grad_rgbs, p, span, c);
    }
    if (p.has_background != 0u && (!SIMD || lane == 0u)) {
        composite_backward_background(grad_background, opacity, c, ray);
    }
}

INSTANTIATE(composite_backward_f32, composite_backward, float, false);
INSTANTIATE(composite_backward_f16, composite_backward, half, false);
INSTANTIATE(composite_backward_simd_f32, composite_backward, float, true);
INSTANTIATE(composite_backward_simd_f16, composite_backward, half, true);
