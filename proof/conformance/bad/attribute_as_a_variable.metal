// rule: undeclared
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float* a [[buffer(0)]])
{
    const uint i = thread_position_in_grid;  // mistake
    a[i] = 1.0f;
}
