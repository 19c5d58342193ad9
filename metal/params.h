// The argument structs: read by the shaders, by the host's C++ and, through the build's table, by Python, which
// packs them. Only 4-byte scalars, so that every compiler lays them out alike.
#ifndef NERF_METAL_PARAMS_H
#define NERF_METAL_PARAMS_H

struct MarchParams {
    uint n_rays;
    uint n_samples;  // S intervals, S + 1 edges
    uint rays_per_thread;
    uint edges_per_thread;
    uint stratified;  // 1: jitter the edges
    uint disparity;   // 1: even steps in 1 / t
    uint seed;
    float t_near;  // world units
    float t_far;
};

struct ImportanceParams {
    uint n_rays;
    uint n_samples;     // S coarse intervals
    uint n_importance;  // N edges to draw
    uint stratified;    // 1: jitter u
    uint merge;         // 1: write the sorted union with the coarse edges
    uint seed;
    float weight_floor;
};

struct CompositeParams {
    uint n_rays;
    uint n_samples;          // dense: of each ray; packed: of all rays together
    uint packed;             // 1: packed_info says where a ray's samples lie
    uint t_stride;           // dense: elements from one ray's t to the next ray's
    uint is_alpha;           // 1: values are alphas, 0: densities
    uint has_background;     // 0: black
    uint background_stride;  // 0: one colour for all rays, 3: one each
    uint has_grad_weights;
    uint has_grad_transmittance;
    float early_stop_eps;
};

#endif
