// rule: virtual
#include "common.h"

struct Params {
    uint n;
    float s;
};

struct Shape {
    virtual float area()  // mistake
    {
        return 1.0f;
    }
};

kernel void k(device float* a [[buffer(0)]], constant Params& p [[buffer(1)]], uint gid [[thread_position_in_grid]])
{
    a[gid] = 1.0f;
}
