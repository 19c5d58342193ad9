// rule: kernel-return
#include "common.h"

struct Params {
    uint n;
    float s;
};

kernel float k(device float* a [[buffer(0)]], uint gid [[thread_position_in_grid]])  // mistake
{
    return a[gid];
}
