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

struct HashgridParams {
    uint n_points;
    uint n_levels;
    uint n_features;  // of an entry: 1, 2, 4 or 8
    uint n_entries;   // of all levels together
    uint points_per_thread;
};

// Widths are whole tiles of 16, at most 128; weights of a layer are [out, in] and, transposed, [in, out].
struct MlpParams {
    uint n_rows;
    uint n_in;      // columns of x
    uint n_out;     // columns of y
    uint n_hidden;  // hidden layers, 1 to 4
    uint pad_in;    // n_in in whole tiles
    uint pad_out;   // n_out in whole tiles
    uint width;     // of hidden layers
    uint x_stride;  // elements from a row of x to the next
    uint y_stride;
    uint n_chunks;  // parts of the rows that have weight gradients of their own
    uint rows_per_thread;
    uint out_activation;  // 0: none, 1: ReLU, 2: sigmoid
    uint has_bias;
    uint has_grad_x;
};

struct MlpSumParams {
    uint n_chunks;
    uint n_columns;
    uint columns_per_thread;
};

struct OccupancyCellsParams {
    uint n_cells;    // M to choose
    uint n_words;    // of bits: cascades * resolution^3 / 32
    uint n_uniform;  // the first of the M: any cells, the others occupied ones
    uint resolution;
    uint in_order;  // 1: first_cell and those that follow it
    uint first_cell;
    uint seed;
};

struct OccupancyUpdateParams {
    uint n_cells;  // M that have a new value
    uint n_words;
};

struct OccupancyPackParams {
    uint n_words;
};

struct TraverseParams {
    uint n_rays;
    uint n_words;        // of bits: cascades * resolution^3 / 32
    uint n_block_words;  // of blocks, their 4 x 4 x 4 cells each
    uint n_samples;      // S, of all rays together
    uint rays_per_thread;
    uint samples_per_ray;  // at most
    uint resolution;
    uint cascades;
    uint stratified;  // 1: jitter the first step
    uint seed;
    float step_size;  // world units, as everything below
    float cone_angle;
    float t_near;
    float t_far;
};

struct VisibilityParams {
    uint n_rays;
    uint n_source;   // samples, or rows, that are chosen from
    uint n_target;   // that are chosen
    uint n_columns;  // of a row
    uint rays_per_thread;
    uint lanes;  // threads that share a ray
    float early_stop_eps;
};

struct ShParams {
    uint n_directions;
    uint degree;  // bands, 1 to 4
    uint directions_per_thread;
};

struct AdamParams {
    uint n_elements;
    uint elements_per_thread;
    uint sparse;      // 1: elements whose gradient is 0 stay as they are
    uint clear_grad;  // 1: gradients are 0 afterwards
    uint has_half;
    float beta1;
    float beta2;
    float weight1;  // 1 - beta1
    float weight2;  // 1 - beta2
    float rate;     // lr / (1 - beta1^t)
    float scale;    // 1 / sqrt(1 - beta2^t)
    float eps;
};

#endif
