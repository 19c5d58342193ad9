// The argument structs of the test shaders.
#ifndef NERF_METAL_PARAMS_H
#define NERF_METAL_PARAMS_H

struct CountParams {
    uint n;
};

struct LaneParams {
    uint n;
    uint operand;  // of a shuffle or a rotation
};

struct SpaceParams {
    uint nx;
    uint ny;
    uint nz;
};

struct ProductParams {
    uint m;
    uint n;
    uint k;
};

#endif
