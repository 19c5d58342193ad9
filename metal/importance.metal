// Importance sampling: the coarse weights as a piecewise-constant density, its cumulative function inverted, the
// drawn edges merged with the coarse ones. Reference: nerf_metal/reference/importance.py. No gradient, as in NeRF.
#include "common.h"
#include "params.h"
#include "random.h"

// One pass over a ray: u only grows, so the interval that holds it only moves forward, and writing a coarse edge
// whenever it is passed leaves the union sorted without a sort.
// Dispatched threads: n_rays, one per ray.
// Not handled: edges that decrease along a ray (the result is then unsorted, never out of bounds).
kernel void importance_forward_f32(
    device const float* t_edges [[buffer(0)]],  // [n_rays, n_samples + 1] world units
    device const float* weights [[buffer(1)]],  // [n_rays, n_samples]
    device float* t_out [[buffer(2)]],          // [n_rays, merge * (n_samples + 1) + n_importance] world units
    constant ImportanceParams& p [[buffer(3)]],
    uint ray [[thread_position_in_grid]])
{
    if (ray >= p.n_rays || p.n_samples == 0u) {
        return;
    }
    device const float* edge = t_edges + ray * (p.n_samples + 1u);
    device const float* weight = weights + ray * p.n_samples;
    const uint merged = p.merge != 0u ? p.n_samples + 1u : 0u;
    device float* out = t_out + ray * (merged + p.n_importance);

    float total = 0.0f;
    for (uint i = 0u; i < p.n_samples; ++i) {
        total += max(weight[i], 0.0f) + p.weight_floor;
    }
    const float scale = total / float(p.n_importance);

    uint interval = 0u;
    float below = 0.0f;  // mass of the intervals passed
    float mass = max(weight[0], 0.0f) + p.weight_floor;
    float start = edge[0];
    float end = edge[1];
    uint n_out = 0u;
    if (merged != 0u) {
        out[n_out++] = start;
    }
    for (uint k = 0u; k < p.n_importance; ++k) {
        const float jitter = p.stratified != 0u ? random_uniform(ray, k, p.seed, STREAM_IMPORTANCE) : 0.5f;
        const float target = (float(k) + jitter) * scale;
        while (below + mass <= target && interval + 1u < p.n_samples) {
            below += mass;
            ++interval;
            mass = max(weight[interval], 0.0f) + p.weight_floor;
            start = end;
            end = edge[interval + 1u];
            if (merged != 0u) {
                out[n_out++] = start;
            }
        }
        const float fraction = min(max((target - below) / mass, 0.0f), 1.0f);
        out[n_out++] = min(start + (end - start) * fraction, end);
    }
    if (merged != 0u) {
        for (uint i = interval + 1u; i <= p.n_samples; ++i) {
            out[n_out++] = edge[i];
        }
    }
}
