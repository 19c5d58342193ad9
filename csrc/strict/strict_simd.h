// The collectives of strict mode, carried out once every lane of a SIMD-group has arrived.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "strict/fiber.h"
#include "host/host_kernel.h"
#include "strict/strict_api.h"

namespace nerf_metal::strict {

enum class State { ready, waiting, done };

struct Lane {
    State state = State::ready;
    Collective at{};
    int line = 0;
    // What the lane brings to a collective and takes from it. Copies: a lane that runs on cannot disturb the
    // others.
    float value = 0;
    unsigned operand = 0;
    MatrixArguments arguments{};
    float a[2]{}, b[2]{}, c[2]{};  // of matrices; the product comes back in c
    Stack stack;
    ThreadIds ids{};
};

// Gives the n lanes of a SIMD-group, which all wait at the same place, their results; what is wrong with the call,
// or nothing.
std::string carry_out(Lane* lanes, size_t n);

// No lane of a threadgroup can go on: two that disagree, one of them waiting, say why.
std::string divergence(const std::vector<Lane>& lanes);

}  // namespace nerf_metal::strict
