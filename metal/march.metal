// Ray marching: where rays meet the scene box, and where along them the field is sampled.
// Reference and equations: nerf_metal/reference/march.py. Nothing here has a gradient: positions are constants.
#include "common.h"
#include "params.h"
#include "random.h"

// Rays whose bounds a thread works out together.
constexpr constant uint MARCH_TILE = TUNING_ITEMS;

struct MarchBounds {
    float t_min[MARCH_TILE];
    float t_max[MARCH_TILE];
};

// Slab method for n rays. A component too small to divide by bounds nothing inside its slab and misses outside it.
inline void march_bounds(thread MarchBounds& bounds, device const float* rays_o, device const float* rays_d,
                         device const float* aabb, constant MarchParams& p, uint n)
{
    for (uint k = 0u; k < n; ++k) {
        float t_min = p.t_near;
        float t_max = p.t_far;
        for (uint axis = 0u; axis < 3u; ++axis) {
            const float o = rays_o[3u * k + axis];
            const float d = rays_d[3u * k + axis];
            const float lo = aabb[axis];
            const float hi = aabb[3u + axis];
            const float inverse = 1.0f / d;
            const float t0 = (lo - o) * inverse;
            const float t1 = (hi - o) * inverse;
            const float enter = max(t_min, min(t0, t1));
            const float leave = min(t_max, max(t0, t1));
            const float beside = o < lo || o > hi ? -1.0f : t_max;  // t_near >= 0, so -1 is a miss
            const bool parallel = fabs(d) < FLOAT_TINY;
            t_min = parallel ? t_min : enter;
            t_max = parallel ? beside : leave;
        }
        const bool hit = t_max > t_min;
        bounds.t_min[k] = hit ? t_min : p.t_near;
        bounds.t_max[k] = hit ? t_max : p.t_near;
    }
}

// The bounds of a tile of rays, whole or what is left of one; returns how many those are.
inline uint march_tile(thread MarchBounds& bounds, device const float* rays_o, device const float* rays_d,
                       device const float* aabb, constant MarchParams& p, uint left)
{
    if (left >= MARCH_TILE) {  // a loop of known length becomes whole vectors
        march_bounds(bounds, rays_o, rays_d, aabb, p, MARCH_TILE);
        return MARCH_TILE;
    }
    march_bounds(bounds, rays_o, rays_d, aabb, p, left);
    return left;
}

inline void march_store(thread const MarchBounds& bounds, device float* t_min, device float* t_max,
                        device uchar* hits, uint n)
{
    for (uint k = 0u; k < n; ++k) {
        t_min[k] = bounds.t_min[k];
        t_max[k] = bounds.t_max[k];
        hits[k] = bounds.t_max[k] > bounds.t_min[k] ? 1 : 0;  // a miss has both at t_near
    }
}

// Where rays enter and leave a box: t_min = max(near, entry), t_max = min(far, exit).
// Dispatched threads: ceil(n_rays / rays_per_thread).
// Not handled: per-ray near and far; boxes that are not axis-aligned.
kernel void march_intersect_f32(
    device const float* rays_o [[buffer(0)]],  // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],  // [n_rays, 3]
    device const float* aabb [[buffer(2)]],    // [2, 3] world units
    device float* t_min [[buffer(3)]],         // [n_rays] world units
    device float* t_max [[buffer(4)]],         // [n_rays] world units
    device uchar* hits [[buffer(5)]],          // [n_rays] 0 or 1
    constant MarchParams& p [[buffer(6)]],
    uint gid [[thread_position_in_grid]])
{
    const uint begin = gid * p.rays_per_thread;
    if (begin >= p.n_rays) {
        return;
    }
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    MarchBounds bounds;
    for (uint ray = begin; ray < end; ray += MARCH_TILE) {
        const uint n = march_tile(bounds, rays_o + 3u * ray, rays_d + 3u * ray, aabb, p, end - ray);
        march_store(bounds, t_min + ray, t_max + ray, hits + ray, n);
    }
}

// Edges first to first + count of a tile of rays, the first of them `tile`. A loop without branches, so that the host's
// compiler makes vectors of it.
template <bool STRATIFIED, bool DISPARITY>
inline void march_edges(device float* t_edges, thread const MarchBounds& bounds, uint tile, uint n, uint first,
                        uint count, constant MarchParams& p)
{
    const float scale = 1.0f / float(p.n_samples);
    const float samples = float(p.n_samples);
    for (uint k = 0u; k < n; ++k) {
        const uint ray = tile + k;
        const float t_min = bounds.t_min[k];
        const float t_max = bounds.t_max[k];
        const float origin = DISPARITY ? 1.0f / t_min : t_min;
        const float length = (DISPARITY ? 1.0f / t_max : t_max) - origin;
        device float* out = t_edges + ray * (p.n_samples + 1u) + first;
        for (uint j = 0u; j < count; ++j) {
            const uint i = first + j;
            float s = float(int(i));  // a signed conversion is one instruction everywhere
            if (STRATIFIED) {
                const float lower = max(s - 0.5f, 0.0f);
                const float upper = min(s + 0.5f, samples);
                s = lower + (upper - lower) * random_uniform(ray, i, p.seed, STREAM_MARCH);
            }
            const float even = origin + length * (s * scale);
            // Rounding must not lead out of the bounds. t_min and no negative number on top cannot lead below.
            out[j] = min(DISPARITY ? max(1.0f / even, t_min) : even, t_max);
        }
    }
}

// march_intersect and the edges of n_samples intervals in one launch:
// s_i = i / S, or uniform between the middles beside it; t = t_min + s (t_max - t_min), or the same in 1 / t.
// Dispatched threads: ceil((n_samples + 1) / edges_per_thread) x ceil(n_rays / rays_per_thread).
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
    const uint begin = gid.y * p.rays_per_thread;
    const uint first = gid.x * p.edges_per_thread;
    if (begin >= p.n_rays || first > p.n_samples) {
        return;
    }
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    const uint count = min(p.edges_per_thread, p.n_samples + 1u - first);
    MarchBounds bounds;
    for (uint tile = begin; tile < end; tile += MARCH_TILE) {
        const uint n = march_tile(bounds, rays_o + 3u * tile, rays_d + 3u * tile, aabb, p, end - tile);
        if (gid.x == 0u) {
            march_store(bounds, t_min + tile, t_max + tile, hits + tile, n);
        }
        if (p.stratified != 0u) {
            if (p.disparity != 0u) {
                march_edges<true, true>(t_edges, bounds, tile, n, first, count, p);
            } else {
                march_edges<true, false>(t_edges, bounds, tile, n, first, count, p);
            }
        } else if (p.disparity != 0u) {
            march_edges<false, true>(t_edges, bounds, tile, n, first, count, p);
        } else {
            march_edges<false, false>(t_edges, bounds, tile, n, first, count, p);
        }
    }
}
