// What light reaches of packed samples: some of each ray's are chosen, their light is counted, and what is known
// of them is moved together. Reference and equations: nerf_metal/reference/visibility.py. Nothing here has a
// gradient: it decides what has.
#include "common.h"
#include "composite.h"
#include "packed.h"
#include "params.h"

// Samples of some rays, from where they lie to where they are wanted: as many as both places have room for.
// Dispatched threads: lanes x ceil(n_rays / rays_per_thread); the lanes of a ray share its samples.
// Not handled: rays that share samples in the target.
kernel void visibility_gather_f32(
    device const float* rays_o [[buffer(0)]],        // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],        // [n_rays, 3]
    device const float* source_starts [[buffer(2)]], // [n_source] world units, as all below
    device const float* source_ends [[buffer(3)]],   // [n_source]
    device const int* source_info [[buffer(4)]],     // [n_rays, 2] start and count
    device const int* target_info [[buffer(5)]],     // [n_rays, 2]
    device int* ray_indices [[buffer(6)]],           // [n_target]
    device float* t_starts [[buffer(7)]],            // [n_target]
    device float* t_ends [[buffer(8)]],              // [n_target]
    device float* positions [[buffer(9)]],           // [n_target, 3]
    constant VisibilityParams& p [[buffer(10)]],
    uint2 gid [[thread_position_in_grid]])
{
    const uint begin = min(gid.y * p.rays_per_thread, p.n_rays);
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    const uint step = max(p.lanes, 1u);
    for (uint ray = begin; ray < end; ++ray) {
        const PackedSpan source = packed_span(source_info, ray, p.n_source);
        const PackedSpan target = packed_span(target_info, ray, p.n_target);
        const uint count = min(source.count, target.count);
        for (uint i = gid.x; i < count; i += step) {
            const float start = source_starts[source.first + i];
            const float finish = source_ends[source.first + i];
            const float middle = 0.5f * (start + finish);
            const uint to = target.first + i;
            ray_indices[to] = int(ray);
            t_starts[to] = start;
            t_ends[to] = finish;
            positions[3u * to] = rays_o[3u * ray] + middle * rays_d[3u * ray];
            positions[3u * to + 1u] = rays_o[3u * ray + 1u] + middle * rays_d[3u * ray + 1u];
            positions[3u * to + 2u] = rays_o[3u * ray + 2u] + middle * rays_d[3u * ray + 2u];
        }
    }
}

// How many of a ray's samples are reached, front to back, by the light that is left, and what they leave of it.
// Dispatched threads: ceil(n_rays / rays_per_thread).
// Not handled: nothing.
kernel void visibility_count_f32(
    device const float* sigmas [[buffer(0)]],     // [n_source] 1 / world unit
    device const float* t_starts [[buffer(1)]],   // [n_source] world units
    device const float* t_ends [[buffer(2)]],     // [n_source]
    device const int* packed_info [[buffer(3)]],  // [n_rays, 2] start and count
    device float* transmittance [[buffer(4)]],    // [n_rays] in front of the samples, then behind those reached
    device int* counts [[buffer(5)]],             // [n_rays]
    constant VisibilityParams& p [[buffer(6)]],
    uint gid [[thread_position_in_grid]])
{
    const uint begin = min(gid * p.rays_per_thread, p.n_rays);
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    for (uint ray = begin; ray < end; ++ray) {
        const PackedSpan span = packed_span(packed_info, ray, p.n_source);
        float light = transmittance[ray];
        uint count = 0u;
        while (count < span.count && light >= p.early_stop_eps) {
            const uint i = span.first + count;
            light *= composite_alpha<false>(sigmas[i], t_ends[i] - t_starts[i]).keep;
            ++count;
        }
        transmittance[ray] = light;
        counts[ray] = int(count);
    }
}

// Rows of some rays' samples, from where they lie to where they are wanted: as many as both places have room for.
// Dispatched threads: lanes x ceil(n_rays / rays_per_thread); the lanes of a ray share its numbers.
// Not handled: rays that share rows in the target.
kernel void visibility_copy_f32(
    device const float* source [[buffer(0)]],     // [n_source, n_columns]
    device const int* source_info [[buffer(1)]],  // [n_rays, 2] start and count
    device const int* target_info [[buffer(2)]],  // [n_rays, 2]
    device float* target [[buffer(3)]],           // [n_target, n_columns]
    constant VisibilityParams& p [[buffer(4)]],
    uint2 gid [[thread_position_in_grid]])
{
    const uint begin = min(gid.y * p.rays_per_thread, p.n_rays);
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    const uint step = max(p.lanes, 1u);
    for (uint ray = begin; ray < end; ++ray) {
        const PackedSpan from = packed_span(source_info, ray, p.n_source);
        const PackedSpan to = packed_span(target_info, ray, p.n_target);
        const uint size = min(from.count, to.count) * p.n_columns;
        device const float* read = source + from.first * p.n_columns;
        device float* write = target + to.first * p.n_columns;
        for (uint i = gid.x; i < size; i += step) {
            write[i] = read[i];
        }
    }
}
