// rule: kernel-parameter
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel void k(device float** a [[buffer(0)]],  // mistake
 uint gid [[thread_position_in_grid]])
{
    a[0][gid] = 1.0f;
}
