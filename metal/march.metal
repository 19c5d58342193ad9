// Ray marching: where rays meet the scene box, and where along them the field is sampled.
// Reference and equations: nerf_metal/reference/march.py. Nothing here has a gradient: positions are constants.
#include "common.h"
#include "params.h"
#include "random.h"

struct MarchBounds {
    float t_min;
    float t_max;
    bool hit;
};

// Slab method. A component too small to divide by bounds nothing inside its slab and misses outside it.
inline MarchBounds march_bounds(device const float* rays_o, device const float* rays_d, device const float* aabb,
                                float t_near, float t_far, uint ray)
{
    float t_min = t_near;
    float t_max = t_far;
    for (uint axis = 0u; axis < 3u; ++axis) {
        const float o = rays_o[3u * ray + axis];
        const float d = rays_d[3u * ray + axis];
        const float lo = aabb[axis];
        const float hi = aabb[3u + axis];
        if (fabs(d) < FLOAT_TINY) {
            t_max = (o < lo || o > hi) ? -1.0f : t_max;  // t_near >= 0, so this is a miss
        } else {
            const float inverse = 1.0f / d;
            const float t0 = (lo - o) * inverse;
            const float t1 = (hi - o) * inverse;
            t_min = max(t_min, min(t0, t1));
            t_max = min(t_max, max(t0, t1));
        }
    }
    MarchBounds bounds;
    bounds.hit = t_max > t_min;
    bounds.t_min = bounds.hit ? t_min : t_near;
    bounds.t_max = bounds.hit ? t_max : t_near;
    return bounds;
}

// Where rays enter and leave a box: t_min = max(near, entry), t_max = min(far, exit).
// Dispatched threads: n_rays, one per ray.
// Not handled: per-ray near and far; boxes that are not axis-aligned.
kernel void march_intersect_f32(
    device const float* rays_o [[buffer(0)]],  // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],  // [n_rays, 3]
    device const float* aabb [[buffer(2)]],    // [2, 3] world units
    device float* t_min [[buffer(3)]],         // [n_rays] world units
    device float* t_max [[buffer(4)]],         // [n_rays] world units
    device uchar* hits [[buffer(5)]],          // [n_rays] 0 or 1
    constant MarchParams& p [[buffer(6)]],
    uint ray [[thread_position_in_grid]])
{
    if (ray >= p.n_rays) {
        return;
    }
    const MarchBounds bounds = march_bounds(rays_o, rays_d, aabb, p.t_near, p.t_far, ray);
    t_min[ray] = bounds.t_min;
    t_max[ray] = bounds.t_max;
    hits[ray] = bounds.hit ? 1 : 0;
}

// Edges first to first + count of one ray. A loop without branches, so that the host's compiler makes vectors of it.
template <bool STRATIFIED, bool DISPARITY>
inline void march_edges(device float* out, uint first, uint count, MarchBounds bounds, uint ray, constant MarchParams& p)
{
    const float scale = 1.0f / float(p.n_samples);
    const float samples = float(p.n_samples);
    const float origin = DISPARITY ? 1.0f / bounds.t_min : bounds.t_min;
    const float length = (DISPARITY ? 1.0f / bounds.t_max : bounds.t_max) - origin;
    for (uint k = 0u; k < count; ++k) {
        const uint i = first + k;
        float s = float(int(i));  // a signed conversion is one instruction everywhere
        if (STRATIFIED) {
            const float lower = max(s - 0.5f, 0.0f);
            const float upper = min(s + 0.5f, samples);
            s = lower + (upper - lower) * random_uniform(ray, i, p.seed, STREAM_MARCH);
        }
        const float even = origin + length * (s * scale);
        // Rounding must not lead out of the bounds; below the first, a sum of t_min and no negative number cannot.
        out[k] = min(DISPARITY ? max(1.0f / even, bounds.t_min) : even, bounds.t_max);
    }
}

// march_intersect and the edges of n_samples intervals in one launch:
// s_i = i / S, or uniform between the middles beside it; t = t_min + s (t_max - t_min), or the same in 1 / t.
// Dispatched threads: ceil((n_samples + 1) / edges_per_thread) x n_rays, each for that many edges of a ray.
// Not handled: disparity with t_near = 0 (refused by the op).
kernel void march_forward_f32(
    device const float* rays_o [[buffer(0)]],  // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],  // [n_rays, 3]
    device const float* aabb [[buffer(2)]],    // [2, 3] world units
    device float* t_edges [[buffer(3)]],       // [n_rays, n_samples + 1] world units
    device float* t_min [[buffer(4)]],         // [n_rays] world units
    device float* t_max [[buffer(5)]],         // [n_rays] world units
    device uchar* hits [[buffer(6)]],          // [n_rays] 0 or 1
    constant MarchParams& p [[buffer(7)]],
    uint2 gid [[thread_position_in_grid]])
{
    const uint ray = gid.y;
    const uint first = gid.x * p.edges_per_thread;
    if (ray >= p.n_rays || first > p.n_samples) {
        return;
    }
    const MarchBounds bounds = march_bounds(rays_o, rays_d, aabb, p.t_near, p.t_far, ray);
    if (gid.x == 0u) {
        t_min[ray] = bounds.t_min;
        t_max[ray] = bounds.t_max;
        hits[ray] = bounds.hit ? 1 : 0;
    }
    const uint count = min(p.edges_per_thread, p.n_samples + 1u - first);
    device float* out = t_edges + ray * (p.n_samples + 1u) + first;
    if (p.stratified != 0u) {
        if (p.disparity != 0u) {
            march_edges<true, true>(out, first, count, bounds, ray, p);
        } else {
            march_edges<true, false>(out, first, count, bounds, ray, p);
        }
    } else if (p.disparity != 0u) {
        march_edges<false, true>(out, first, count, bounds, ray, p);
    } else {
        march_edges<false, false>(out, first, count, bounds, ray, p);
    }
}
