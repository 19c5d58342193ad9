// Strict mode: a launch run threadgroup by threadgroup with every SIMD-group and threadgroup feature carried out
// exactly, lanes in any order, and every misuse reported.
#pragma once
#include "launcher/launch.h"

namespace nerf_metal::strict {

enum class Order { forward, reversed, shuffled };

// Runs a checked launch. Throws std::runtime_error with one line for a divergent collective, a thread that leaves
// before one that others reached, a read of unwritten threadgroup memory, a race on it, an index outside it, and
// for more threadgroup memory than an Apple GPU has.
void run(const Launch& launch, Order order, uint64_t seed);

}  // namespace nerf_metal::strict
